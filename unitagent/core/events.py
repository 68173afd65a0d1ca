"""Everything that can happen to an agent. Each event carries ``now``, seconds on this agent's monotonic
clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from unitagent.core.exits import Exit
from unitagent.core.model import Failure, Reply


class Tick(Struct, frozen=True):
    """Time has passed; a timer may be due.

    Attributes:
        now: See the module.
        late: Seconds by which this agent was late because it was suspended or starved of CPU.

    """

    now: float
    late: float = 0.0


class StoreNotified(Struct, frozen=True):
    """Another agent published a wake-up: the store has something new."""

    now: float


class Exchanged(Struct, frozen=True):
    """The store answered the current exchange."""

    now: float
    reply: Reply


class StoreFailed(Struct, frozen=True):
    """The current exchange failed; ``detail`` says why."""

    now: float
    detail: str = ""


class PortFound(Struct, frozen=True):
    """A free master port for this generation, and one that is free for the next one so far."""

    now: float
    generation: int
    port: int
    next_port: int


class ProbeResult(StrEnum):
    """Who answered at a peer's address, if anybody did."""

    ALIVE = "alive"  # this incarnation
    REFUSED = "refused"  # the machine answers, and nobody listens there
    OTHER = "other"  # another incarnation, of any rank or Unit; no evidence about the one I asked for
    SELF = "self"  # my own agent: the address leads back to this machine
    STRANGER = "stranger"  # an agent with another secret, or with none where I have one
    SILENT = "silent"  # nobody, or nothing trustworthy


class PeersChecked(Struct, frozen=True):
    """The result of ``CheckPeers``.

    Attributes:
        now: See the module.
        gang: Id of the gang that was checked.
        answers: Who answered, by the incarnation that was looked for; only that incarnation itself counts as
            reached.

    """

    now: float
    gang: str
    answers: Mapping[str, ProbeResult]


class PeerAnswered(Struct, frozen=True):
    """The result of ``AskPeer``.

    Attributes:
        now: See the module.
        rank: The rank that was asked.
        incarnation: The incarnation that was asked about.
        result: Who answered.
        generation: The peer's generation.
        working: The peer reports that its workload is up in ``generation``.
        ready: The peer reports that the whole Unit serves.
        leader: Incarnation of the rank 0 that has answered the peer, or that the peer is; "" for none.
        leader_age: Seconds since the peer asked the question that this rank 0 answered.

    """

    now: float
    rank: int
    incarnation: str
    result: ProbeResult
    generation: int = 0
    working: bool = False
    ready: bool = False
    leader: str = ""
    leader_age: float = 0.0


class PeerDisconnected(Struct, frozen=True):
    """The connection to a watched peer broke."""

    now: float
    rank: int
    incarnation: str


class Spawned(Struct, frozen=True):
    """The workload's main process exists; ``start`` says how it was started, if that could be in two ways."""

    now: float
    pid: int
    start: str = ""


class WorkloadExited(Struct, frozen=True):
    """The workload's main process has ended; its descendants may still run."""

    now: float
    exit: Exit


class WorkloadGone(Struct, frozen=True):
    """No process of the workload is left, and this is proven."""

    now: float


class WorkloadStuck(Struct, frozen=True):
    """Some process of the workload cannot be killed; ``detail`` says which."""

    now: float
    detail: str


class HealthChecked(Struct, frozen=True):
    """One result of the workload's health check, after its threshold.

    A failure that is not ``fatal`` only keeps traffic away.
    """

    now: float
    healthy: bool
    detail: str = ""
    fatal: bool = True


class HealthProbed(Struct, frozen=True):
    """One failed health check, or the first that passed after one. It only affects what is shown to
    people.

    Attributes:
        now: When its answer came.
        check: What was asked: a URL, or a command.
        problem: Why it failed, in words; empty if it passed.
        answered: Whether the check is over; else its answer is still awaited.

    """

    now: float
    check: str
    problem: str
    answered: bool = True


class WorkloadUnhealthy(Struct, frozen=True):
    """The workload is alive but cannot work: its engine stalls, or it has lost child processes."""

    now: float
    failure: Failure


class KeeperReady(Struct, frozen=True):
    """The keeper holds what the workload needs."""

    now: float


class KeeperExited(Struct, frozen=True):
    """The keeper's main process has ended; its descendants may still run."""

    now: float
    exit: Exit


class KeeperGone(Struct, frozen=True):
    """No process of the keeper is left."""

    now: float


class KeeperStuck(Struct, frozen=True):
    """Some process of the keeper cannot be killed; ``detail`` says which."""

    now: float
    detail: str


class KeeperStale(Struct, frozen=True):
    """What the keeper has loaded has changed since; ``detail`` says what and how."""

    now: float
    detail: str


class Drained(Struct, frozen=True):
    """No request is in flight any more."""

    now: float


class StopRequested(Struct, frozen=True):
    """SIGTERM or SIGINT arrived. A second one, at least a second later, means: stop at once."""

    now: float
    signal: int = 0


Event = (
    Tick
    | StoreNotified
    | Exchanged
    | StoreFailed
    | PortFound
    | PeersChecked
    | PeerAnswered
    | PeerDisconnected
    | Spawned
    | WorkloadExited
    | WorkloadGone
    | WorkloadStuck
    | HealthChecked
    | HealthProbed
    | WorkloadUnhealthy
    | KeeperReady
    | KeeperExited
    | KeeperGone
    | KeeperStuck
    | KeeperStale
    | Drained
    | StopRequested
)
