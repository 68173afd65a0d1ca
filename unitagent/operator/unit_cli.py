"""``unitagent status``, ``drain``, ``restart``, ``pause`` and ``resume``: read a Unit's status and send it
orders, through its store or through the agent in this container.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec.structs import replace

from unitagent.agent.secret_rotation import SecretFile
from unitagent.core.history import make_order_event
from unitagent.core.model import Order, OrderKind, Record, format_ranks
from unitagent.core.observed_status import find_pause, status_from_store
from unitagent.core.spares import describe_spares
from unitagent.core.summary import summarize
from unitagent.errors import ConfigurationError, StoreError, UnitAgentError
from unitagent.operator import agent_client, status_table
from unitagent.operator.history.event_text import format_time
from unitagent.operator.order_progress import OrderProgress, find_longest_lease
from unitagent.operator.store_locator import (
    ask_agent_instead,
    ask_own_agent,
    find_directions,
    find_store_url,
    refuse_other_unit,
)
from unitagent.operator.terminal import Screen, Style, detect_style
from unitagent.settings import Settings
from unitagent.store.history import UnitHistory
from unitagent.store.protocol import Store, UnitSnapshot
from unitagent.store.redis_store import RedisStore
from unitagent.store.spare_list import UnitSpares
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import escape_json, escape_line, print_text, print_verbatim, print_warning

_LATE = 0.75  # of a lease
_EVERY = 0.25  # seconds between two reads of an order's progress
_ANSWER_TIMEOUT = 2.0  # seconds for the store's answer
_LOST = "the store has lost the order before any rank read it (it was set back); give it again"
_ENDED = (
    "no rank is left that could do that: all have left or are silent; `unitagent events` says how it ended"
)


class OrderTimeoutError(UnitAgentError):
    """An order is not carried out in time; 124 as with timeout(1)."""

    exit_code = 124


def show_status(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the Unit's status, repeatedly with ``--watch``.

    Raises:
        UnitAgentError: neither the store nor an agent tells of such a Unit; with ``--watch`` that is shown
            and asked again.

    """
    keys = settings.keys
    if not namespace.watch:
        print_verbatim(_read_status(settings, keys, as_json=namespace.json) + "\n")
        return 0
    file = SecretFile(settings.secret_file, keys, _warn, _warn)
    screen, style, shown, answered = Screen(), detect_style(), "", ""
    while True:
        trouble = ""
        try:
            shown = _read_status(settings, keys, as_json=namespace.json)
            answered = _format_clock()
        except UnitAgentError as error:
            trouble = escape_line(error)
        if namespace.json:
            _print_or_warn(shown, trouble)
        else:
            screen.draw(_mark_as_old(shown, answered, trouble, style) if trouble else shown)
        time.sleep(namespace.interval)
        asyncio.run(file.check_file())


def _print_or_warn(shown: str, trouble: str) -> None:
    if trouble:
        _warn(trouble)
    else:
        print_verbatim(f"{shown}\n")


def _format_clock() -> str:
    return time.strftime("%H:%M:%S")


def _mark_as_old(shown: str, answered: str, trouble: str, style: Style) -> str:
    """Put the reason above the last answer, if there was any, and grey it out."""
    head = f"{_format_clock()} no answer; what follows is the last one, of {answered}" if shown else ""
    lines = [*(style.wrap(head, severity="bad") if head else ()), *style.wrap(trouble, severity="bad")]
    return "\n".join([*lines, style.fade(shown)] if shown else lines)


def _read_status(settings: Settings, keys: Keyring, *, as_json: bool) -> str:
    """Return the status as text; nothing in it controls a terminal but its colours."""
    seen, output = asyncio.run(load_status(settings, keys))
    now = time.time()
    seen = {**seen, "summary": summarize(seen, now)}
    if as_json:
        return escape_json(json.dumps(seen, indent=2))
    due = _find_beat_due(settings, seen["instances"])
    return status_table.format_table(seen, output, due, now=now, style=detect_style())


def _find_beat_due(settings: Settings, instances: Sequence[dict[str, Any]]) -> float:
    """Return the seconds after which a heartbeat is late. A Unit may have another lease than this shell
    knows, and its heartbeat is at most half of that.
    """
    leases = [one["lease"] for one in instances if one.get("lease") not in (None, settings.lease)]
    return _LATE * max(leases) if leases else settings.timing.beat_due


async def load_status(settings: Settings, keys: Keyring) -> tuple[dict[str, Any], list[str]]:
    """Load status and failure output: the agent in this container knows most; the store has the failure
    output.
    """
    seen = await asyncio.to_thread(ask_own_agent, settings, keys) if settings.has_embedded_store else None
    refuse_other_unit(settings, seen)
    try:
        store = _open_store(settings, seen, keys)
    except StoreError:
        if seen is None:
            raise
        return seen, []  # the Unit is still forming, and the agent does not know rank 0 yet
    try:
        seen = seen or await _load_from_store(settings, store, keys)
        failure = seen["failure"]
        output = await store.read_output(failure["generation"]) if failure else None
    except StoreError as error:
        if seen is None:
            seen = await asyncio.to_thread(ask_agent_instead, settings, keys, error, shown=True)
        return seen, []
    finally:
        await store.close()
    return seen, list(output.lines) if output else []


async def _load_from_store(settings: Settings, store: RedisStore, keys: Keyring) -> dict[str, Any]:
    snapshot = await store.read()
    if not snapshot.records and (snapshot.unlike or not snapshot.generation):
        raise UnitAgentError(f"UNIT_ID={settings.unit}: {_explain_unknown_unit(settings, snapshot)}")
    seen = status_from_store(settings.unit, snapshot, settings.lease)
    for one in seen["instances"]:
        record = snapshot.records.get(one["rank"])
        one["lease"] = record.lease or None if record else None
    seen |= {"endpoint": None, "secrets": _summarize_secrets(snapshot, keys) if keys else None}
    seen["spares"] = await _load_spares(settings, seen["size"], keys)
    report = await asyncio.to_thread(_ask_leader, settings, snapshot.records.get(0), keys)
    if report.pop("phase", None) != seen["phase"]:  # rank 0 sees something else than the store shows
        report.pop("conditions", None)
    if report.get("spares") is None:
        report.pop("spares", None)
    return seen | report


async def _load_spares(settings: Settings, size: int, keys: Keyring) -> dict[str, Any] | None:
    """Load the list of spares; None if the Unit has none."""
    url = find_directions(settings, None, keys)
    spares = UnitSpares(settings.unit, url, size=size, timeout=_ANSWER_TIMEOUT, keys=keys)
    try:
        listed = await spares.read()
    finally:
        await spares.close()
    return describe_spares(listed, settings.lease) if listed else None


def _summarize_secrets(snapshot: UnitSnapshot, keys: Keyring) -> dict[str, Any]:
    differing, strangers = sorted(snapshot.unlike), sorted(snapshot.foreign)
    return {"accepted": len(keys), "differing": differing, "strangers": strangers}


def _ask_leader(settings: Settings, leader: Record | None, keys: Keyring) -> dict[str, Any]:
    """Fetch what the store does not know; the table for people does not show it."""
    if leader is None or leader.has_left or not leader.port:
        return {}
    return agent_client.fetch_agent_fields(settings.unit, leader.ip, leader.port, keys)


def _open_store(settings: Settings, seen: dict[str, Any] | None, keys: Keyring) -> RedisStore:
    """Open the store of these settings; an embedded one is at rank 0's address, which an agent knows best."""
    return RedisStore(
        settings.unit, find_directions(settings, seen, keys), timeout=_ANSWER_TIMEOUT, keys=keys, warn=_warn
    )


def _warn(text: str) -> None:
    print_warning(f"warning: {text}")


def send_order(settings: Settings, namespace: argparse.Namespace) -> int:
    """Ask the Unit to drain or to restart; with ``--wait`` wait until it has."""
    limit = namespace.timeout
    if limit is not None and not namespace.wait:
        raise ConfigurationError("--timeout: only counts with --wait")
    order_to_send = Order(
        kind=OrderKind(namespace.kind), generation=0, reason=namespace.reason, by=_identify_user()
    )
    return asyncio.run(_send_order(settings, order_to_send, wait=namespace.wait, limit=limit))


def pause_restarts(settings: Settings, namespace: argparse.Namespace) -> int:
    """Pause or resume restarts, and wait until all ranks know.

    Raises:
        OrderTimeoutError: some of them do not know it in time.

    """
    order_to_send = Order(
        kind=OrderKind(namespace.kind),
        generation=0,
        reason=namespace.reason,
        by=_identify_user(),
        seconds=namespace.seconds,
    )
    return asyncio.run(_send_order(settings, order_to_send, wait=False, limit=None))


async def _send_order(settings: Settings, order_to_send: Order, *, wait: bool, limit: float | None) -> int:
    keys, kind = settings.keys, order_to_send.kind
    url = await asyncio.to_thread(find_store_url, settings, keys)
    store = RedisStore(settings.unit, url, timeout=_ANSWER_TIMEOUT, keys=keys, warn=_warn)
    try:
        snapshot = await store.read()
        if not snapshot.records:
            raise UnitAgentError(f"UNIT_ID={settings.unit}: {_explain_unknown_unit(settings, snapshot)}")
        if kind is not OrderKind.DRAIN and all(record.has_left for record in snapshot.records.values()):
            raise UnitAgentError(f"UNIT_ID={settings.unit}: {_ENDED}")
        if kind is OrderKind.RESTART and (pause := find_pause(snapshot)) is not None:
            raise UnitAgentError(_refuse_restart(pause))
        order_to_send = replace(order_to_send, generation=snapshot.generation)
        await _record_order(
            UnitHistory(settings.unit, url, timeout=_ANSWER_TIMEOUT), order_to_send
        )  # before the events that follow from it
        order = await store.put_order(order_to_send)
        if kind in {OrderKind.PAUSE, OrderKind.RESUME}:
            await _wait_until_known(store, settings, order)
            return 0
        print_text(f"asked Unit {settings.unit} to {kind.value} (generation {order.generation})", sys.stderr)
        if silent := _find_silent_ranks(snapshot, settings.lease):
            _warn(_describe_silence(silent))
        if wait:
            progress = OrderProgress(
                order, settings.lease, time.monotonic(), started=_has_started(snapshot, order)
            )
            await _wait_until_done(store, progress, settings, limit)
    finally:
        await store.close()
    return 0


def _find_silent_ranks(snapshot: UnitSnapshot, lease: float) -> list[int]:
    """Return the ranks that have not left, and whose leases are over."""
    return [
        rank
        for rank, record in sorted(snapshot.records.items())
        if not record.has_left and snapshot.ages.get(rank, 0.0) > (record.lease or lease)
    ]


def _describe_silence(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"{format_ranks(ranks)} is not responding; it will get the order when it reconnects"
    return f"{format_ranks(ranks)} are not responding; they will get the order when they reconnect"


def _refuse_restart(pause: dict[str, Any]) -> str:
    by, reason = pause["by"] or "an operator", pause["reason"] or "no reason given"
    return (
        f"restarts are paused until {format_time(pause['until'])} by {by}: {reason}; it would stop the Unit "
        "until then: `unitagent resume` first"
    )


async def _wait_until_known(store: Store, settings: Settings, order: Order) -> None:
    """Wait until the records of all ranks show the pause or the end of one, and say so.

    Raises:
        OrderTimeoutError: some ranks do not show it in time; they will when they reach the store.

    """
    began = time.monotonic()
    while True:
        records = (await store.read()).records
        patience = find_longest_lease(records.values(), settings.lease) + _ANSWER_TIMEOUT
        unaware = [
            rank
            for rank, record in sorted(records.items())
            if not record.has_left and (record.pause is None or record.pause.number < order.number)
        ]
        if not unaware:
            break
        if time.monotonic() - began > patience:
            raise OrderTimeoutError(
                f"the order stands, but not all ranks have confirmed it: {_describe_silence(unaware)}"
            )
        await asyncio.sleep(_EVERY)
    if order.kind is OrderKind.RESUME:
        message = "restarts are resumed"
    else:
        end = format_time(order.number / 1e6 + order.seconds)
        until = f"restarts are paused for {order.seconds:g} s, until {end}"
        message = f"{until}: nothing starts until then, or until `unitagent resume`"
    print_text(f"{settings.unit}: {message}", sys.stderr)


def _explain_unknown_unit(settings: Settings, snapshot: UnitSnapshot) -> str:
    if not snapshot.unlike:
        return "no such Unit in the store; `unitagent list` shows all that it has"
    has = "use another UNIT_SECRET" if settings.keys else "require a UNIT_SECRET"
    return f"all ranks in the store {has}; pass their secret to this command (UNIT_SECRET_FILE)"


def _has_started(snapshot: UnitSnapshot, order: Order) -> bool:
    """Whether rank 0 already runs in the generation of the order, instead of waiting to start."""
    leader = snapshot.records.get(0)
    return leader is not None and leader.state.started and leader.generation == order.generation


async def _record_order(history: UnitHistory, order: Order) -> None:
    """Record the order and its sender in the Unit's history; a failure does not prevent the order."""
    event = make_order_event(order, time.time(), secrets.token_hex(8))
    try:
        await history.add_events([event], time.time)
    except StoreError as error:
        print_warning(f"warning: the order is not in the Unit's history: {error}")
    finally:
        await history.close()


def _identify_user() -> str:
    """Return user and host; a container's user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def _wait_until_done(
    store: Store, progress: OrderProgress, settings: Settings, limit: float | None
) -> None:
    """Poll until the order is done, and say how far it is.

    Raises:
        OrderTimeoutError: it is not done within ``limit`` seconds.

    """
    began, shown = time.monotonic(), ""
    async for state in _follow_progress(store, progress, settings):
        if state != shown:
            print_text(f"{settings.unit}: {state}", sys.stderr)
            shown = state
        if limit is not None and time.monotonic() - began > limit:
            raise OrderTimeoutError(
                f"not done within {limit:g} s (--timeout), {state}; the order stands, and `unitagent status` "
                "says what it waits for"
            )
    print_text(f"{settings.unit}: {progress.outcome} after {time.monotonic() - began:.1f} s", sys.stderr)


async def _follow_progress(store: Store, progress: OrderProgress, settings: Settings) -> AsyncIterator[str]:
    """Yield how far the order is until it is done; an embedded store ends with rank 0, any other is only
    unreachable.

    Raises:
        UnitAgentError: no rank is left that could carry it out, or the store has lost it.

    """
    answered = time.monotonic()
    while True:
        snapshot = None
        try:
            snapshot = await store.read()
            answered = time.monotonic()
        except StoreError:
            if time.monotonic() - answered > max(settings.store_timeout, progress.quiet):
                raise
            if not settings.has_embedded_store:
                progress.note_outage(time.monotonic())
        if progress.observe_snapshot(snapshot, time.monotonic()):
            return
        if progress.is_hopeless(snapshot):
            raise UnitAgentError(f"UNIT_ID={settings.unit}: {_ENDED}")
        if progress.is_lost(snapshot, time.monotonic()):
            raise UnitAgentError(f"UNIT_ID={settings.unit}: {_LOST}")
        yield progress.describe(snapshot)
        await asyncio.sleep(_EVERY)
