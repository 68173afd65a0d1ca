"""All that one agent knows. Frozen: a new state for every event, and ``decide`` is its only writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from unitagent.core.actions import Action, Level, Say
from unitagent.core.exits import Exit
from unitagent.core.leases import Leases, neighbours
from unitagent.core.model import Failure, Gang, Mode, Order, Reason, Record, Rules

SMALL = 8  # instances; up to here everybody holds a connection to everybody
ALL_BEATS = 32  # instances; in larger Units only the beats that somebody judges are read


class Work(StrEnum):
    """What is left of the workload on this instance."""

    ABSENT = "absent"  # proven: no process of it is alive
    ALIVE = "alive"
    OVER = "over"  # its main process ended, descendants may live
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Leaving:
    """This agent is going to end, once nothing of its workload is left."""

    code: int
    why: str
    until: float = float("inf")  # when the farewell in the store is given up


@dataclass(frozen=True, slots=True)
class Marks:
    """When the steps of the last recovery happened, on my clock; None for not yet.

    ``generation`` is the one that ended; ``detect`` how long its failure had gone unnoticed.
    """

    generation: int = 0
    failed: float | None = None
    detect: float = 0.0
    stopped: float | None = None
    opened: float | None = None
    spawned: float | None = None
    ready: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """See the module.

    Attributes:
        me: what I announce, or will announce with the next exchange.
        generation: the highest I ever heard of; it never goes down, whatever the store says.
        records: everybody's record as the store last showed them.
        current: this very event brought ``records``, so they are one snapshot of the store.
        last_to_act: my own change was the last before that snapshot.
        took: the record whose place my own took, when I joined.
        gang: the last gang I started with; without guard, with the members that were rebuilt since.
        refused: the incarnation, by rank, whose address refused a connection when it was last asked.
        watch_again: a connection broke and its peer was asked, so it has to be held anew if the peer stays.
        answered: ranks that I asked since I lost the store, or slept, and whose answer or silence I know.
        restarts_anyway: the generation whose order to restart found me still at its barrier.
        incredible: a generation that was named and is not believed.
        suspects: gang members that did not stand the second opinion, with the reason in words.
        mute: ranks that did not answer when they were asked, and have not beaten since.
        proven: this workload has been healthy, whatever it is now.
        ended: failure of my own instance that has yet to end its generation.

    """

    rules: Rules
    me: Record
    started: float
    now: float
    generation: int = 0

    # the store
    records: Mapping[int, Record] = field(default_factory=dict)
    current: bool = False
    last_to_act: bool = False
    holder: str = ""
    looked: bool = False
    joined: bool = False
    fenced: bool = False
    took: Record | None = None
    exchanging: Record | None = None
    in_flight: bool = False
    published: Record | None = None
    look: bool = True
    notify: bool = False
    next_beat: float = 0.0
    leases: Leases = field(default_factory=Leases)
    failure: Failure | None = None
    failure_stored: bool = True
    order: Order | None = None
    restarts_anyway: int = 0
    incredible: int = 0

    # the barrier
    entered: float = 0.0
    finding_port: int = 0
    checking: str = ""
    check_again: float = 0.0
    reached: frozenset[tuple[int, str]] = frozenset()
    unreached: tuple[int, ...] = ()
    not_before: float = 0.0
    report_at: float = 0.0
    warned: frozenset[str] = frozenset()

    # the workload
    gang: Gang | None = None
    work: Work = Work.ABSENT
    grace: float = 0.0
    spawned: float = 0.0
    proven: bool = False
    exit: Exit | None = None
    ended: Failure | None = None
    stuck: str = ""
    cut_off: bool = False

    # the peers
    refused: Mapping[int, str] = field(default_factory=dict)
    asking: frozenset[int] = frozenset()
    ask_again: Mapping[int, float] = field(default_factory=dict)
    hung_up: frozenset[int] = frozenset()
    watch_again: bool = False
    suspects: Mapping[int, str] = field(default_factory=dict)
    mute: frozenset[int] = frozenset()
    heard: Mapping[int, float] = field(default_factory=dict)
    doubts: Mapping[int, str] = field(default_factory=dict)
    answered: frozenset[int] = frozenset()

    # the end
    asked: float | None = None
    hurry: bool = False
    draining: float | None = None
    awaiting_drain: bool = False
    drained: bool = False
    leaving: Leaving | None = None
    completed: bool = False

    # the history
    restarts: tuple[float, ...] = ()
    counted: int = 0
    was_ready: bool = False
    marks: Marks = field(default_factory=Marks)

    @property
    def connected(self) -> bool:
        """Whether the last exchange was answered."""
        return self.leases.contact is not None

    @property
    def up(self) -> bool:
        """Whether a workload of mine may have living processes."""
        return self.work is not Work.ABSENT

    @property
    def in_gang(self) -> bool:
        """Whether I have started in the generation that I stand in."""
        return self.gang is not None and self.gang.generation == self.me.generation

    @property
    def done(self) -> bool:
        """Whether my part of a job ended well, and nobody has proposed another generation.

        In a drain it was told to end, and what it says to that is no success.
        """
        ended_well = self.exit is not None and self.exit.status == 0 and not self.up and self.draining is None
        return ended_well and self.rules.mode is Mode.JOB and self.generation == self.me.generation

    @property
    def leads(self) -> bool:
        """Whether I am rank 0, or the Unit is guarded: then my end is everybody's."""
        return self.rules.guard or self.rules.rank == 0


Result = tuple[State, tuple[Action, ...]]


def first(unit_rules: Rules, me: Record, now: float) -> State:
    """The state of an agent that has just started."""
    return State(rules=unit_rules, me=me, started=now, now=now, next_beat=now)


def mine(state: State, /, **changes: Any) -> State:
    """The state with changes to my own record."""
    return replace(state, me=replace(state.me, **changes))


def say(level: Level, text: str) -> tuple[Action, ...]:
    """One sentence, as actions."""
    return (Say(level, text),)


def members(state: State) -> Iterator[Record]:
    """The records of the other members of my gang that are still that incarnation."""
    if state.gang is None:
        return
    for rank, incarnation in enumerate(state.gang.incarnations):
        record = state.records.get(rank)
        if rank != state.rules.rank and record is not None and record.incarnation == incarnation:
            yield record


def watched(state: State) -> tuple[Record, ...]:
    """The gang members that I hold a connection to: my two neighbours in the ring and rank 0; in a small Unit
    all of them, so that all know of a death at once; and rank 0, which has the traffic, watches all it can.
    """
    size, rank = state.rules.size, state.rules.rank
    if size <= (ALL_BEATS if rank == 0 else SMALL):
        return tuple(members(state))
    near = {0, *neighbours(rank, size)}
    return tuple(record for record in members(state) if record.rank in near)


def judged(state: State) -> tuple[Record, ...]:
    """The gang members whose beats I read: all of them, unless the Unit is large."""
    return tuple(members(state)) if state.rules.size <= ALL_BEATS else watched(state)


def overdue(state: State, rank: int) -> bool:
    """Whether a rank's lease is over, as the last snapshot shows it. A change of its beat is seen up to a
    heartbeat late; half of one is made up for, where its own silence is the second witness.
    """
    allowance = state.rules.heartbeat / 2 if state.rules.probes else 0.0
    return state.leases.unchanged(rank) > state.rules.lease - allowance


def vouched(state: State, rank: int) -> bool:
    """Whether a rank answered within the lease: its own word is as good a sign of life as a beat."""
    return state.now - state.heard.get(rank, float("-inf")) < state.rules.lease


def silent(state: State, rank: int) -> bool:
    """Whether a rank's lease is over and it does not answer either, where it can be asked."""
    mute = rank in state.mute and not vouched(state, rank)
    return overdue(state, rank) and (mute or not state.rules.probes)


def name(state: State, rank: int) -> str:
    """A rank as people read it: with its address, so that they find the machine."""
    record = state.me if rank == state.rules.rank else state.records.get(rank)
    return f"rank {rank} ({record.ip})" if record else f"rank {rank}"


def failure_of(state: State, rank: int, reason: Reason, detail: str, detect: float = 0.0) -> Failure:
    """A failure of my generation, as I saw it; ``detect`` is how long it had gone unnoticed."""
    record = state.me if rank == state.rules.rank else state.records.get(rank)
    return Failure(
        generation=state.me.generation,
        rank=rank,
        ip=record.ip if record else "",
        reason=reason,
        detail=detail,
        at=state.now + state.rules.epoch,
        detect=detect,
    )


def go(state: State, code: int, why: str) -> State:
    """The state of an agent that has made up its mind to end; the first reason stays."""
    return state if state.leaving else replace(state, leaving=Leaving(code, why))
