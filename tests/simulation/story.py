"""What happened in a simulated world, one line for each thing, for people who look for the cause."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from msgspec.structs import fields

from unitagent.core.actions import AskPeer, CheckPeers, Exchange, Log, Quit, Spawn, WatchPeers
from unitagent.core.events import Exchanged, HealthChecked, HealthProbed, PeerAnswered, Tick
from unitagent.core.state import State


class Story:
    """Lines in the order of their time; a story that is not told costs nothing."""

    def __init__(self, told: bool = False) -> None:
        self.told = told
        self.lines: list[str] = []

    def add(self, now: float, who: str, what: str) -> None:
        """One line."""
        if self.told:
            self.lines.append(f"{now:8.3f}  {who:<8} {what}")

    def step(self, now: float, event: Any, before: State, after: State, did: tuple[Any, ...]) -> None:
        """What an agent learned, what changed in it, and what it does."""
        if not self.told:
            return
        changes = ", ".join(_list_changes(before, after))
        acts = ", ".join(_describe_action(action) for action in did)
        quiet = all(isinstance(action, Exchange | AskPeer) for action in did)
        common = isinstance(event, Tick | Exchanged | PeerAnswered | HealthChecked | HealthProbed)
        if common and not changes and quiet:
            return
        self.add(
            now, after.me.incarnation, f"{_describe_event(event)}: {changes}{' => ' if acts else ''}{acts}"
        )


def _describe_event(event: Any) -> str:
    if isinstance(event, Exchanged):
        reply = event.reply
        seen = " ".join(
            f"{rank}:{record.incarnation}/{record.generation}/{record.state[:4]}{'*' if record.gang else ''}"
            for rank, record in sorted(reply.records.items())
        )
        return f"Exchanged[{reply.holder} g{reply.generation} {seen}]"
    told = [f"{field.name}={getattr(event, field.name)}" for field in fields(event) if field.name != "now"]
    return f"{type(event).__name__}[{' '.join(told)}]"


_SHOWN = {
    "generation": attrgetter("generation"),
    "work": attrgetter("workload.phase"),
    "leaving": attrgetter("shutdown.leaving"),
    "pending_failure": attrgetter("workload.pending_failure"),
    "isolated": attrgetter("workload.isolated"),
    "draining_since": attrgetter("shutdown.draining_since"),
    "fenced": attrgetter("fenced"),
    "presumed_lost": attrgetter("peers.presumed_lost"),
    "readiness_doubts": attrgetter("peers.readiness_doubts"),
    "requested_at": attrgetter("shutdown.requested_at"),
}


def _list_changes(before: State, after: State) -> Iterator[str]:
    for one in ("generation", "state", "gang", "stop_requested", "has_left", "budget_exhausted"):
        old, new = getattr(before.me, one), getattr(after.me, one)
        if old != new:
            yield f"me.{one} {old or '-'}->{new or '-'}"
    for one, of in _SHOWN.items():
        old, new = of(before), of(after)
        if old != new:
            yield f"{one} {old or '-'}->{new or '-'}"
    if before.connected != after.connected:
        yield f"connected->{after.connected}"


def _describe_action(action: Any) -> str:
    match action:
        case Exchange():
            extra = " notify" if action.notify else ""
            return f"exchange{extra}{' take=' + action.take if action.take else ''}"
        case Log():
            return f"say {action.text!r}"
        case Spawn():
            return f"SPAWN {action.gang.id}"
        case AskPeer():
            return f"ask {action.peer.incarnation}"
        case CheckPeers() | WatchPeers():
            return f"{type(action).__name__} {' '.join(peer.incarnation for peer in action.peers)}"
        case Quit():
            return f"QUIT {action.code}"
    return repr(action)
