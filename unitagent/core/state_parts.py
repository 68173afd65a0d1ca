"""What one agent knows, in six parts; together they are its :class:`~unitagent.core.state.State`.

Each is frozen: a change makes a new one, by the state's ``with_…`` methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from unitagent.core.events import ProbeResult
from unitagent.core.exits import Exit
from unitagent.core.leases import Leases
from unitagent.core.model import Charge, Failure, Gang, Order, Record


class WorkloadPhase(StrEnum):
    """What is left of the workload on this instance."""

    GONE = "absent"  # proven: no process of it is alive
    ALIVE = "alive"
    MAIN_EXITED = "over"  # its main process ended, descendants may live
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Leaving:
    """This agent is going to end, once nothing of its workload is left."""

    code: int
    why: str
    until: float = float("inf")  # when the farewell in the store is given up


@dataclass(frozen=True, slots=True)
class RecoveryTimestamps:
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
class StoreView:
    """The store as it last answered, and what I have yet to say to it or to hear from it.

    Attributes:
        records: everybody's record as the store last showed them.
        current: this very event brought ``records``, so they are one snapshot of the store.
        last_to_act: my own change was the last before that snapshot.
        holder: the incarnation that held my rank in that snapshot, or empty.
        ever_answered: the store has answered at least once.
        trouble: why it did not answer last time, or empty.
        joined: since when my rank is mine; None before that.
        confirmed: my tenure has stood for a lease, and is above whatever the store may be set back to.
        predecessor: the record whose place my own took, when I joined.
        former: the last record of another in my rank that the store has shown me and shows no more.
        led: the generation that the store last showed as started by a rank 0, and its incarnation.
        clock: of the store, when it last answered; see :func:`joining.next_tenure`.
        exchanging: the record that the exchange under way puts there; None when it only looks.
        in_flight: an exchange is under way.
        asked: when that one, or the last one, began.
        touched: when the one began that was last answered: I may have stood still before I read the answer.
        published: my record as the store is known to have it; None when that is not known.
        look: there may be something new, so the next exchange is due at once.
        notify: that exchange tells everybody else to look.
        next_beat: when an exchange is due in any case.
        leases: when the others' beats were seen to change.
        order: the last wish of an operator.
        implausible: a generation that was named and is not believed.
        foreign: ranks whose records are not signed with my Unit's secret, as the store last showed them.

    """

    records: Mapping[int, Record] = field(default_factory=dict)
    current: bool = False
    last_to_act: bool = False
    holder: str = ""
    ever_answered: bool = False
    trouble: str = ""
    joined: float | None = None
    confirmed: bool = False
    predecessor: Record | None = None
    former: Record | None = None
    led: tuple[int, str] = (0, "")
    clock: int = 0
    exchanging: Record | None = None
    in_flight: bool = False
    asked: float = 0.0
    touched: float | None = None
    published: Record | None = None
    look: bool = True
    notify: bool = False
    next_beat: float = 0.0
    leases: Leases = field(default_factory=Leases)
    order: Order | None = None
    implausible: int = 0
    foreign: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """The barrier that I stand at, or last stood at.

    Attributes:
        entered: when I came to it.
        finding_port: the generation that I look for a master port for, or have looked.
        checking: id of the gang whose members I try to reach, or empty.
        check_again: not before this are they tried again.
        reached: incarnations that have ever answered me themselves, asked from my card.
        found: who answered instead of the incarnations that did not, when I last asked.
        confirmed: the records of the gang that my own names, or named last.
        not_before: when the pause before a restart is over.
        report_at: when to say next who is missing.

    """

    entered: float = 0.0
    finding_port: int = 0
    checking: str = ""
    check_again: float = 0.0
    reached: frozenset[str] = frozenset()
    found: Mapping[str, ProbeResult] = field(default_factory=dict)
    confirmed: tuple[Record, ...] = ()
    not_before: float = 0.0
    report_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadView:
    """The workload on this instance, and the gang that it belongs to.

    Attributes:
        gang: the last gang I started with; without guard, with the members that were rebuilt since.
        phase: what is left of the workload.
        grace: seconds that it was given to end, when it was last told to.
        spawned: when its main process was there.
        proven: this workload has been healthy, whatever it is now.
        exit: how its main process ended; None while it lives, and from the next barrier on.
        ended: failure of my own instance that has yet to end its generation.
        stuck: what of it cannot be made to go away, or empty.
        cut_off: it was stopped because nobody could be reached any more.
        alone: who could not, and since when, in words; of the last time.
        opened: the store's clock when its barrier opened, in milliseconds.

    """

    gang: Gang | None = None
    phase: WorkloadPhase = WorkloadPhase.GONE
    grace: float = 0.0
    spawned: float = 0.0
    proven: bool = False
    exit: Exit | None = None
    ended: Failure | None = None
    stuck: str = ""
    cut_off: bool = False
    alone: str = ""
    opened: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEvidence:
    """What the others said when they were asked directly, and what their silence is worth.

    Attributes:
        refused: incarnations whose address refused a connection when it was last asked.
        asking: ranks with an open question.
        ask_again: when each rank may be asked again.
        hung_up: ranks whose connection broke, and that have not been asked since.
        watch_again: a connection broke and its peer was asked, so it has to be held anew if the peer stays.
        suspects: gang members that did not stand the second opinion, with the reason in words.
        mute: incarnations that did not answer when they were asked, and have not beaten since.
        heard: when each incarnation was asked what it answered last, by me or by whoever told me; as with
            ``touched`` of the store.
        unheard: since when each has not: when it was asked what it did not answer, after its last answer.
        doubts: ranks that something speaks against, with the reason in words; I do not serve meanwhile.
        answered: ranks that I asked since I lost the store, or slept, and whose answer or silence I know.

    """

    refused: frozenset[str] = frozenset()
    asking: frozenset[int] = frozenset()
    ask_again: Mapping[int, float] = field(default_factory=dict)
    hung_up: frozenset[int] = frozenset()
    watch_again: bool = False
    suspects: Mapping[int, str] = field(default_factory=dict)
    mute: frozenset[str] = frozenset()
    heard: Mapping[str, float] = field(default_factory=dict)
    unheard: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[int, str] = field(default_factory=dict)
    answered: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """The way down, of the Unit or of this agent alone.

    Attributes:
        asked: since when I am asked to stop.
        ordered: that was an operator's order, which all others obey as well.
        force_stop: I was asked twice, so nothing is waited for any more.
        draining: since when the Unit drains.
        awaiting_drain: I asked to be told when no request is in flight any more.
        drained: none is.
        leaving: why this agent is going to end, and with which code.
        completed: all ranks of the job exited with 0.

    """

    asked: float | None = None
    ordered: bool = False
    force_stop: bool = False
    draining: float | None = None
    awaiting_drain: bool = False
    drained: bool = False
    leaving: Leaving | None = None
    completed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Failures and restarts, as far as they are remembered.

    Attributes:
        failure: the first failure of the last generation that failed.
        failure_stored: the store has it, as far as I know.
        reported: the generation whose failure I have told as its finder.
        charges: restarts that count against the budget; the last of them are in my record, too.
        counted: the last generation whose end was counted.
        was_ready: some generation of my life has been ready.
        timestamps: when the steps of the last recovery happened.

    """

    failure: Failure | None = None
    failure_stored: bool = True
    reported: int = 0
    charges: tuple[Charge, ...] = ()
    counted: int = 0
    was_ready: bool = False
    timestamps: RecoveryTimestamps = field(default_factory=RecoveryTimestamps)
