"""Each look at the clock in the simulator is due, or one that an agent at rest may sleep through."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from unitagent.core.actions import Action
from unitagent.core.apply_event import LATE_TICKS
from unitagent.core.decide import next_wakeup
from unitagent.core.events import Event, Tick
from unitagent.core.state import State


def check_rest(before: State, event: Event, after: State, actions: Sequence[Action]) -> None:
    """Assert that a look at the clock that comes before it is due changes nothing but the time."""
    wake = next_wakeup(before)
    on_time = isinstance(event, Tick) and event.late <= LATE_TICKS * before.config.timing.tick
    if wake is None or not on_time or event.now >= wake:
        return
    same = replace(before, now=after.now).with_store(is_new_snapshot=False, wrote_last=False)
    assert (after, actions) == (same, ()), f"not due before {wake}: {event} led to {actions}"
