"""Everything that can happen to an agent. Each event carries ``now``, seconds on this agent's monotonic
clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from unitagent.core.exits import Exit
from unitagent.core.model import Failure, Reply


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; a timer may be due.

    Attributes:
        now: See the module.
        late: Seconds by which this agent was late because it was suspended or starved of CPU.

    """

    now: float
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreNotified:
    """Another agent published a wake-up: the store has something new."""

    now: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The store answered the current exchange."""

    now: float
    reply: Reply


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The current exchange failed; ``detail`` says why."""

    now: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PortFound:
    """A free master port for this generation."""

    now: float
    generation: int
    port: int


class ProbeResult(StrEnum):
    """Who answered at a peer's address, if anybody did."""

    ALIVE = "alive"  # this incarnation
    REFUSED = "refused"  # the machine answers, and nobody listens there
    OTHER = "other"  # another incarnation, of any rank or Unit; no evidence about the one I asked for
    SELF = "self"  # my own agent: the address leads back to this machine
    STRANGER = "stranger"  # an agent with another secret, or with none where I have one
    SILENT = "silent"  # nobody, or nothing trustworthy


@dataclass(frozen=True, slots=True)
class PeersChecked:
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


@dataclass(frozen=True, slots=True)
class PeerAnswered:
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


@dataclass(frozen=True, slots=True)
class PeerHungUp:
    """The connection to a watched peer broke."""

    now: float
    rank: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class Spawned:
    """The workload's main process exists."""

    now: float
    pid: int


@dataclass(frozen=True, slots=True)
class WorkloadExited:
    """The workload's main process has ended; its descendants may still run."""

    now: float
    exit: Exit


@dataclass(frozen=True, slots=True)
class WorkloadGone:
    """No process of the workload is left, and this is proven."""

    now: float


@dataclass(frozen=True, slots=True)
class WorkloadStuck:
    """Some process of the workload cannot be killed; ``detail`` says which."""

    now: float
    detail: str


@dataclass(frozen=True, slots=True)
class HealthChecked:
    """One result of the workload's health check, after its threshold.

    A failure that is not ``fatal`` only keeps traffic away.
    """

    now: float
    healthy: bool
    detail: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class WorkloadUnhealthy:
    """The workload is alive but cannot work: its engine stalls, or it has lost child processes."""

    now: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is in flight any more."""

    now: float


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM or SIGINT arrived. A second one, at least a second later, means: stop at once."""

    now: float


Event = (
    Tick
    | StoreNotified
    | Exchanged
    | StoreFailed
    | PortFound
    | PeersChecked
    | PeerAnswered
    | PeerHungUp
    | Spawned
    | WorkloadExited
    | WorkloadGone
    | WorkloadStuck
    | HealthChecked
    | WorkloadUnhealthy
    | Drained
    | StopAsked
)
