"""Everything an agent can do to the world: ``decide`` returns actions, the shell carries them out in
order.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from unitagent.core.model import Failure, Gang, Record


class Exchange(Struct, frozen=True, kw_only=True):
    """Write my record and read the others: the only write to the store.

    At most one is in progress; it ends with ``Exchanged`` or ``StoreFailed``.

    Attributes:
        record: Written if my rank is free, already mine, or held by ``take``; None only reads.
        take: Incarnation that may be replaced because it is known to be gone; empty for none.
        seen: The count of its last heartbeat that I saw; if the store has a later one, it is not gone.
        generation: The highest generation that I know; the store keeps the maximum.
        failure: The store keeps it unless it has one of the same generation or a later one.
        judge: Ranks whose heartbeats I want to read.
        notify: Publish a wake-up to all other agents.

    """

    record: Record | None
    take: str
    seen: int
    generation: int
    failure: Failure | None
    judge: tuple[int, ...]
    notify: bool


class FindPort(Struct, frozen=True):
    """Find a free master port on rank 0's address; ends with ``PortFound``."""

    generation: int


class CheckPeers(Struct, frozen=True):
    """Probe who answers at the addresses of these records, from my network interface; ends with
    ``PeersChecked``.
    """

    gang: str
    peers: tuple[Record, ...]


class WatchPeers(Struct, frozen=True):
    """Keep a connection open to each of these peers and to no other; a break is ``PeerDisconnected``."""

    peers: tuple[Record, ...]


class AskPeer(Struct, frozen=True):
    """Ask for a peer's ``/status`` as a second opinion; ends with ``PeerAnswered``."""

    peer: Record


class Spawn(Struct, frozen=True):
    """Start the workload as a member of this gang."""

    gang: Gang


class Stop(Struct, frozen=True):
    """Stop the workload: SIGTERM, at most ``grace`` seconds, then SIGKILL until no process is left.

    If repeated while stopping, the shorter grace counts. Ends with ``WorkloadGone`` or ``WorkloadStuck``.
    """

    grace: float


class SpawnKeeper(Struct, frozen=True):
    """Start the keeper as a member of this gang; ends with ``KeeperReady``, or ``KeeperExited``."""

    gang: Gang


class StopKeeper(Struct, frozen=True):
    """Stop the keeper as ``Stop`` does the workload. Ends with ``KeeperGone`` or ``KeeperStuck``."""

    grace: float


class AwaitDrain(Struct, frozen=True):
    """Report with ``Drained`` when no request is in flight."""


class Level(IntEnum):
    """Severity of a log line; numbers as in :mod:`logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Log(Struct, frozen=True):
    """One log line for the operator.

    Attributes:
        level: Its severity.
        text: A sentence.
        event: What it is about, in the words of the history (:class:`history.EventKind`); empty for
            anything else.
        failure: The failure that it tells.
        exit_code: With which the agent ends.

    """

    level: Level
    text: str
    event: str = ""
    failure: Failure | None = None
    exit_code: int | None = None

    def list_fields(self) -> dict[str, str | int]:
        """What a program reads of it, without what is not known."""
        failure = self.failure
        fields = {
            "event": self.event or None,
            "reason": failure.reason.value if failure else None,
            "failed_rank": failure.rank if failure and not failure.requested else None,
            "exit_code": failure.exit_code if failure and self.exit_code is None else self.exit_code,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Quit(Struct, frozen=True):
    """End the agent with this exit code. Always the last action."""

    code: int
    why: str


Action = (
    Exchange
    | FindPort
    | CheckPeers
    | WatchPeers
    | AskPeer
    | Spawn
    | Stop
    | SpawnKeeper
    | StopKeeper
    | AwaitDrain
    | Log
    | Quit
)
