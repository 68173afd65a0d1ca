"""A pause of restarts, which an operator orders: meanwhile nothing starts, and what runs goes on.

A generation that fails in a pause ends as always: all stop, the failure is recorded, charged and shown, and
the Unit stands at the next barrier. It opens when the pause is over, or when an operator ends it.

Every record carries the newest pause that its agent knows, so a store that is wiped or set back, and a
container that is rebuilt, learn of it from the others; an end of a pause is a newer one of 0 s. The newest
counts, by the number of its order. How long it lasts is fixed by each agent on its own clock when it learns
of it, from the age of the order by the store's clock, and never longer than was ordered. Whoever starts
without having heard of it is followed, because those who run and those who wait would never meet.
"""

from __future__ import annotations

from collections.abc import Iterable

from unitagent.core.actions import Level
from unitagent.core.model import YEAR, Order, OrderKind, Record, RestartPause, format_age
from unitagent.core.state import Result, State, log_line, update_record

LONGEST_PAUSE = 86400.0  # seconds
_LONGEST_TEXT = 200  # characters; every record carries them


def learn_pause(state: State) -> Result:
    """Adopt the newest pause, or the end of one, from the operator's order or another rank's record."""
    if not state.store.is_new_snapshot or not state.joined:
        return state, ()
    clock = state.store.clock / 1000
    newest = find_newest(state.store.records.values(), state.store.order, clock)
    known = state.me.pause
    if newest is None or (known is not None and newest.number <= known.number):
        return state, ()
    left = seconds_left(newest, clock)
    was = is_paused(state)
    state = update_record(state, pause=newest)
    if left > 0:
        state = state.with_recovery(paused_until=state.now + left)
        text = f"restarts are paused for {left:.0f} s, {describe_origin(newest)}"
        return state, log_line(Level.WARNING, f"{text}; nothing starts until then", "order")
    if not was:
        return state, ()
    return _leave_pause(state, state.now), log_line(
        Level.INFO, f"restarts are resumed, {describe_origin(newest)}", "order"
    )


def end_pause(state: State) -> Result:
    """Notice that the pause is over."""
    if not state.recovery.paused_until or is_paused(state):
        return state, ()
    state = _leave_pause(state, state.recovery.paused_until).with_store(exchange_due=True)
    return state, log_line(Level.INFO, "the pause of restarts is over")


def _leave_pause(state: State, at: float) -> State:
    """The state after the pause; whoever waits at a barrier has waited for the others since then only."""
    not_before = max(state.barrier.backoff_until, at)
    return state.with_barrier(backoff_until=not_before).with_recovery(paused_until=0.0)


def is_paused(state: State) -> bool:
    """Whether nothing may start now, as far as I know."""
    return state.now < state.recovery.paused_until


def earliest_start(state: State) -> float:
    """When both the pause before a restart and the one that an operator ordered are over."""
    return max(state.barrier.backoff_until, state.recovery.paused_until)


def find_newest(records: Iterable[Record], order: Order | None, clock: float) -> RestartPause | None:
    """Return the newest pause that these show, perhaps one that is over; None for none. One that is far ahead
    of the store's clock, in seconds, is forged or corrupt: accepting it would make it the last one.
    """
    shown = [record.pause for record in records if record.pause is not None]
    if order is not None and order.kind in {OrderKind.PAUSE, OrderKind.RESUME}:
        shown.append(_make_pause(order))
    plausible = (pause for pause in shown if pause.number <= 1e6 * clock + YEAR)
    return max(plausible, key=lambda pause: pause.number, default=None)


def _make_pause(order: Order) -> RestartPause:
    seconds = order.seconds if order.kind is OrderKind.PAUSE else 0.0
    return RestartPause(
        number=order.number, seconds=seconds, by=_make_plain(order.by), reason=_make_plain(order.reason)
    )


def _make_plain(text: str) -> str:
    """Return what a record can hold of this text."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_TEXT])


def seconds_left(pause: RestartPause, clock: float) -> float:
    """Return how long it lasts, by the store's clock in seconds; no longer than was ordered, also where that
    clock was set back.
    """
    return min(pause.seconds, pause.seconds - (clock - pause.number / 1e6)) if pause.seconds else 0.0


def describe_pause(state: State, pause: RestartPause) -> str:
    """Return for how long a pause goes on, who asked for it and why, for people."""
    left = format_age(state.recovery.paused_until - state.now)
    return f"restarts are paused for {left} more, {describe_origin(pause)}"


def describe_origin(pause: RestartPause) -> str:
    """Return who asked and why, for people."""
    return f"asked by {pause.by or 'an operator'}: {pause.reason or 'no reason given'}"
