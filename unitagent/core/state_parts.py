"""The seven parts of an agent's :class:`~unitagent.core.state.State`.

All are frozen; the state's ``with_…`` methods make changed copies. Times are seconds on this agent's
monotonic clock. In the comments of the core, "I" is this agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from unitagent.core.events import ProbeResult
from unitagent.core.exits import Exit
from unitagent.core.leases import Leases
from unitagent.core.model import Charge, Failure, Gang, Order, Record


class WorkloadPhase(StrEnum):
    """What is left of the workload on this instance."""

    GONE = "absent"  # no process of it is alive, and this is proven
    ALIVE = "alive"
    MAIN_EXITED = "over"  # its main process has ended; descendants may live
    STOPPING = "stopping"


class Leaving(Struct, frozen=True):
    """The agent will end as soon as no process of its workload is left.

    Attributes:
        code: Its exit code.
        why: The reason, for people.
        until: When to stop waiting for the store to receive the last record.

    """

    code: int
    why: str
    until: float = float("inf")


class RecoveryTimestamps(Struct, frozen=True):
    """When the steps of the last recovery happened; None for those yet to come.

    Attributes:
        generation: The generation that ended.
        failed: When I learned that it had ended.
        detect: Seconds for which the failure had gone unnoticed.
        stopped: The last process of the workload was gone.
        opened: The next barrier opened.
        spawned: The main process existed.
        ready: The whole Unit served again.

    """

    generation: int = 0
    failed: float | None = None
    detect: float = 0.0
    stopped: float | None = None
    opened: float | None = None
    spawned: float | None = None
    ready: float | None = None


class StoreView(Struct, frozen=True, kw_only=True):
    """The store as of its last answer, and what to send and read next.

    Attributes:
        records: Everybody's record as the store last showed it.
        is_new_snapshot: This very event brought ``records``, so they are one snapshot of the store.
        wrote_last: My own change was the last one before that snapshot.
        previous_record: My own record in the snapshot before that one; None for none.
        holder: The incarnation that held my rank in that snapshot; empty for none.
        ever_answered: The store has answered at least once.
        last_error: Why it did not answer the last time; empty if it did.
        joined_at: Since when I hold my rank; None before that.
        tenure_confirmed: My tenure has lasted for ``takeover`` and is above whatever the store may be set
            back to.
        predecessor: The record that mine replaced when I joined.
        forgotten_holder: The last record of another holder of my rank that the store no longer shows.
        last_started_leader: The last generation that the store showed as started by a rank 0, and the
            incarnation of that rank 0.
        clock: The store's clock at its last answer, in milliseconds; see
            :func:`rank_ownership.choose_tenure`.
        exchanging: The record that the current exchange writes; None if it only reads.
        in_flight: An exchange is in progress.
        exchange_started: When the current, or else the last, exchange began.
        last_contact_at: When the last answered exchange began. The answer may have waited for me, so its
            arrival proves less.
        published: My record as the store is known to have it; None if that is not known.
        exchange_due: Something may be new, so the next exchange is due at once.
        notify: The next exchange wakes all other agents up.
        next_beat: When an exchange is due in any case.
        deferred_since: Since when I hold back a change of my record that another one will follow at once.
        leases: When the others' heartbeats changed.
        order: The last operator's order.
        implausible_generation: A generation that was named and cannot be right; 0 for none.
        unverified_ranks: Ranks whose records are not signed with my Unit's secret, as of the last answer.

    """

    records: Mapping[int, Record] = field(default_factory=dict)
    is_new_snapshot: bool = False
    wrote_last: bool = False
    previous_record: Record | None = None
    holder: str = ""
    ever_answered: bool = False
    last_error: str = ""
    joined_at: float | None = None
    tenure_confirmed: bool = False
    predecessor: Record | None = None
    forgotten_holder: Record | None = None
    last_started_leader: tuple[int, str] = (0, "")
    clock: int = 0
    exchanging: Record | None = None
    in_flight: bool = False
    exchange_started: float = 0.0
    last_contact_at: float | None = None
    published: Record | None = None
    exchange_due: bool = True
    notify: bool = False
    next_beat: float = 0.0
    deferred_since: float | None = None
    leases: Leases = field(default_factory=Leases)
    order: Order | None = None
    implausible_generation: int = 0
    unverified_ranks: frozenset[int] = frozenset()


class Barrier(Struct, frozen=True, kw_only=True):
    """The barrier at which I wait, or last waited.

    Attributes:
        entered: When I came to it.
        finding_port: The generation for which I am looking, or have looked, for a master port.
        probing_gang: Id of the gang whose members I am probing; empty for none.
        probe_again_at: When they may be probed again.
        reached_at: When each incarnation last answered a probe from my network interface.
        probe_results: Who answered in place of the incarnations that did not, at the last probe.
        confirmed_members: The members' records of the gang that I confirmed last.
        backoff_until: When the pause before a restart ends.
        report_at: When to log the missing ranks next.

    """

    entered: float = 0.0
    finding_port: int = 0
    probing_gang: str = ""
    probe_again_at: float = 0.0
    reached_at: Mapping[str, float] = field(default_factory=dict)
    probe_results: Mapping[str, ProbeResult] = field(default_factory=dict)
    confirmed_members: tuple[Record, ...] = ()
    backoff_until: float = 0.0
    report_at: float = 0.0


class FailedCheck(Struct, frozen=True, kw_only=True):
    """A health check that failed the last time.

    Attributes:
        problem: How, in words.
        since: When it first failed without passing since.
        checks: How often it was made since then; 0 while the first answer is awaited.
        report_at: When to log it next.

    """

    problem: str
    since: float
    checks: int
    report_at: float


class WorkloadView(Struct, frozen=True, kw_only=True):
    """The workload on this instance, and its gang.

    Attributes:
        gang: The last gang with which I started; without guard its rebuilt members are replaced in it.
        phase: What is left of the workload.
        grace: Seconds that it got to end, when last told to stop.
        spawned: When its main process existed.
        suspended_seconds: Seconds since then for which I was suspended, and perhaps it, too.
        start: How it was started, if that could be in two ways.
        was_healthy: It has been healthy at least once.
        failed_checks: Its health checks that failed the last time, by what they ask.
        exit: How its main process ended; None while it lives, and again from the next barrier on.
        pending_failure: A failure of my own instance that has yet to end its generation.
        stuck: Which process cannot be killed; empty for none.
        isolated: It was stopped because this instance was isolated.
        isolation_reason: Who did not answer, and since when, in words; kept from the last isolation.
        barrier_opened_ms: The store's clock when its barrier opened, in milliseconds.

    """

    gang: Gang | None = None
    phase: WorkloadPhase = WorkloadPhase.GONE
    grace: float = 0.0
    spawned: float = 0.0
    suspended_seconds: float = 0.0
    start: str = ""
    was_healthy: bool = False
    failed_checks: Mapping[str, FailedCheck] = field(default_factory=dict)
    exit: Exit | None = None
    pending_failure: Failure | None = None
    stuck: str = ""
    isolated: bool = False
    isolation_reason: str = ""
    barrier_opened_ms: int = 0


class KeeperView(Struct, frozen=True, kw_only=True):
    """The keeper on this instance; its record follows from this (:func:`keepers.set_keeper`).

    Attributes:
        gang: The gang with which it started; None if no process of it is left.
        phase: What is left of it.
        ready: It holds what the workload needs.
        since: When it started.
        grace: Seconds that it got to end, when last told to stop.
        stuck: Which of its processes cannot be killed; empty for none.
        stale: How what it has loaded differs from what is there now; empty while it does not.

    """

    gang: Gang | None = None
    phase: WorkloadPhase = WorkloadPhase.GONE
    ready: bool = False
    since: float = 0.0
    grace: float = 0.0
    stuck: str = ""
    stale: str = ""


class PeerEvidence(Struct, frozen=True, kw_only=True):
    """What the peers answered when asked directly, and what their silence means.

    Attributes:
        connection_refused: Incarnations whose address refused the last connection.
        awaiting_answer: Ranks with an open question.
        ask_again_at: When each rank may be asked again.
        disconnected: Ranks whose connection broke and that have not been asked since.
        reconnect_due: A connection broke and its peer was asked; reconnect if the peer stays.
        presumed_lost: Gang members whose own word, or whose address, says that they are gone, with the reason
            in words; a snapshot of the store ends the generation.
        unresponsive: Incarnations that did not answer when asked, and have sent no heartbeat since.
        known_alive_at: When I sent each incarnation the question that it answered last, since the answer may
            have waited for me; or when the peer that relays its answer did.
        unanswered_since: When I sent each incarnation the first question that it did not answer since its
            last answer.
        readiness_doubts: Ranks with evidence against them, with the reason in words; I am not ready
            meanwhile.
        polled: Ranks asked since I lost the store, or slept, whose answer or silence I know.

    """

    connection_refused: frozenset[str] = frozenset()
    awaiting_answer: frozenset[int] = frozenset()
    ask_again_at: Mapping[int, float] = field(default_factory=dict)
    disconnected: frozenset[int] = frozenset()
    reconnect_due: bool = False
    presumed_lost: Mapping[int, str] = field(default_factory=dict)
    unresponsive: frozenset[str] = frozenset()
    known_alive_at: Mapping[str, float] = field(default_factory=dict)
    unanswered_since: Mapping[str, float] = field(default_factory=dict)
    readiness_doubts: Mapping[int, str] = field(default_factory=dict)
    polled: frozenset[int] = frozenset()


class Shutdown(Struct, frozen=True, kw_only=True):
    """The shutdown of the Unit, or of this agent alone.

    Attributes:
        requested_at: Since when I am asked to stop.
        requested_by: Who asked, in words.
        ordered: An operator's order asked for it, which all other agents apply too.
        signalled_at: When the first signal to stop came.
        force_stop: A second signal came, so I wait for nothing any more.
        draining_since: Since when the Unit drains.
        awaiting_drain: I asked to be notified when no request is in flight.
        drained: No request is in flight any more.
        leaving: Why this agent will end, and with which code.
        completed: All ranks of the job exited with 0.

    """

    requested_at: float | None = None
    requested_by: str = ""
    ordered: bool = False
    signalled_at: float | None = None
    force_stop: bool = False
    draining_since: float | None = None
    awaiting_drain: bool = False
    drained: bool = False
    leaving: Leaving | None = None
    completed: bool = False

    @property
    def stop_requested(self) -> bool:
        """Whether I am asked to stop."""
        return self.requested_at is not None

    @property
    def draining(self) -> bool:
        """Whether the Unit drains."""
        return self.draining_since is not None


class Recovery(Struct, frozen=True, kw_only=True):
    """Failures and restarts that are remembered.

    Attributes:
        failure: The first failure of the last generation that failed.
        failure_stored: The store has it, as far as I know.
        reported_generation: The generation whose failure I found and logged.
        charges: Restarts that count against the budget; my record has the last of them.
        counted_generation: The last generation whose end was counted.
        was_ready: Some generation has been ready since this agent started.
        timestamps: When the steps of the last recovery happened.
        paused_until: When the pause of restarts ends that an operator ordered; 0 if there is none.

    """

    failure: Failure | None = None
    failure_stored: bool = True
    reported_generation: int = 0
    charges: tuple[Charge, ...] = ()
    counted_generation: int = 0
    was_ready: bool = False
    timestamps: RecoveryTimestamps = field(default_factory=RecoveryTimestamps)
    paused_until: float = 0.0
