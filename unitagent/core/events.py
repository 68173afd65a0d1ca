"""All that can happen to an agent. Each event carries ``now``: monotonic seconds of this agent's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from unitagent.core.exits import Exit
from unitagent.core.model import Failure, Reply


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; a timer of ours may be due.

    Attributes:
        late: seconds by which this agent was late, because it stood still or was starved.

    """

    now: float
    late: float = 0.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """Somebody said "look": the store has something new."""

    now: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The store answered the exchange under way."""

    now: float
    reply: Reply


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The exchange under way got no answer."""

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
    REFUSED = "refused"  # the machine: nobody listens there
    OTHER = "other"  # another incarnation, of whatever rank or Unit; it says nothing of whom I asked for
    SELF = "self"  # my own agent: the address leads back to this machine
    STRANGER = "stranger"  # an agent that signs with another secret, or does not sign as I do
    SILENT = "silent"  # nobody, or with nothing that can be believed


@dataclass(frozen=True, slots=True)
class PeersChecked:
    """The answer to ``CheckPeers``: who answered at each peer's probe address, asked from our card.

    Attributes:
        gang: the one that was checked.
        answers: by the incarnation that was asked for; only itself can say that it is reached.

    """

    now: float
    gang: str
    answers: Mapping[str, ProbeResult]


@dataclass(frozen=True, slots=True)
class PeerAnswered:
    """The answer to ``AskPeer``.

    Attributes:
        incarnation: that was asked about.
        working: the peer says that its workload is up in ``generation``.
        ready: the peer says that the whole Unit serves.
        leader: incarnation of the rank 0 that has vouched for the peer, or is the peer; "" where none has.
        leader_age: seconds since the peer asked what that rank 0 answered.

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
    """The connection that was held to a watched peer broke."""

    now: float
    rank: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class Spawned:
    """The workload's main process is there."""

    now: float
    pid: int


@dataclass(frozen=True, slots=True)
class WorkloadExited:
    """The workload's main process ended; descendants of it may live on."""

    now: float
    exit: Exit


@dataclass(frozen=True, slots=True)
class WorkloadGone:
    """Proof that no process of the workload is left."""

    now: float


@dataclass(frozen=True, slots=True)
class WorkloadStuck:
    """Something of the workload cannot be made to go away; ``detail`` says what."""

    now: float
    detail: str


@dataclass(frozen=True, slots=True)
class HealthChecked:
    """One answer of the workload's health check, already counted against its threshold.

    One that is not ``fatal`` keeps traffic away and ends nothing.
    """

    now: float
    healthy: bool
    detail: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class WorkloadSick:
    """The workload is alive but cannot work (stalled engine, lost children)."""

    now: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is in flight any more."""

    now: float


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM or SIGINT came; the second one, a second later or more, means at once."""

    now: float


Event = (
    Tick
    | Pushed
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
    | WorkloadSick
    | Drained
    | StopAsked
)
