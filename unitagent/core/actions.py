"""All that an agent can do to the world. ``decide`` returns these; the shell carries them out in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from unitagent.core.model import Failure, Gang, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Publish my record and read the others': the only write to the store.

    At most one is under way; it ends in ``Exchanged`` or ``StoreFailed``.

    Attributes:
        record: put if my rank is free, mine already, or held by ``take``; None only looks.
        take: incarnation that may be replaced, because it is known to be gone.
        seen: the count of its last beat that I saw: one that has beaten since then is not gone.
        generation: the highest I know; the store keeps the maximum.
        failure: kept by the store unless it has one of that generation or a later one.
        judge: ranks whose beats I want to see.
        notify: push "look" to everybody else.

    """

    record: Record | None
    take: str
    seen: int
    generation: int
    failure: Failure | None
    judge: tuple[int, ...]
    notify: bool


@dataclass(frozen=True, slots=True)
class FindPort:
    """Find a free master port on rank 0's address."""

    generation: int


@dataclass(frozen=True, slots=True)
class CheckPeers:
    """Ask who answers at the probe addresses of these records, from my card; ends in ``PeersChecked``."""

    gang: str
    peers: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class WatchPeers:
    """Hold a connection to each of these, and to no other; a break is ``PeerHungUp``."""

    peers: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class AskPeer:
    """Ask a peer's ``/status`` for a second opinion; ends in ``PeerAnswered``."""

    peer: Record


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the workload as a member of this gang."""

    gang: Gang


@dataclass(frozen=True, slots=True)
class Stop:
    """End the workload: SIGTERM, at most ``grace`` seconds, SIGKILL until nothing is left.

    Given again while stopping, a shorter grace counts. Ends in ``WorkloadGone`` or ``WorkloadStuck``.
    """

    grace: float


@dataclass(frozen=True, slots=True)
class AwaitDrain:
    """Tell by ``Drained`` when no request is in flight."""


class Level(IntEnum):
    """Severity of a log line; numbers as in :mod:`logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Log:
    """One sentence for the operator."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    """End the agent. Always the last action."""

    code: int
    why: str


Action = Exchange | FindPort | CheckPeers | WatchPeers | AskPeer | Spawn | Stop | AwaitDrain | Log | Quit
