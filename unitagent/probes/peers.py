"""Peers seen directly, without the store: asked for a second opinion, checked for reachability, watched.

The invariant: silence proves nothing, and neither does an address. A peer counts as alive, or as another one,
only by an answer that is whole, says which incarnation of which rank and Unit gives it and, where the Unit
has a secret, is signed for this very question; as refused only by its machine, or by a firewall before it.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from unitagent.core.events import ProbeResult
from unitagent.core.model import InstanceState
from unitagent.insist import has_arrived, insist
from unitagent.keys import Keyring
from unitagent.probes.signature import (
    BRIEF_HEADER,
    INCARNATION_HEADER,
    NONCE_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    UNIT_HEADER,
    Claim,
    brief_question,
    verify,
)
from unitagent.probes.tripwires import Tripwires

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from unitagent.core.model import Record
    from unitagent.probes.question import Answered

_ASKED_AT_ONCE = 32
_INSIST = 0.1  # seconds after which a question that was lost is asked once more, beside the first
_DOUBT = 5  # of so many pauses, one ends so though the question has arrived: its answer may be lost
_MAX_PORT = 65535
_RANK_DIGITS = 4  # sizes end at 1024


class Verdict(NamedTuple):
    """What came of asking a peer; all but the first count only when it is alive.

    Attributes:
        generation: the one the peer stands in.
        working: its workload is up in that generation.
        ready: it holds that the whole Unit serves.
        leader: incarnation of the rank 0 that has vouched for it, or that it is; "" where none has.
        leader_age: seconds since it asked what that rank 0 answered.

    """

    opinion: ProbeResult
    generation: int = 0
    working: bool = False
    ready: bool = False
    leader: str = ""
    leader_age: float = 0.0


_SILENT = Verdict(ProbeResult.SILENT)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: my Unit and my own incarnation, and the keys that my Unit signs with, if it has any."""

    unit: str
    incarnation: str
    keys: Keyring = field(default_factory=Keyring)


class Peers:
    """The other agents of the Unit, reached from our card at the addresses in their records.

    Attributes:
        timeout: seconds for one question, or for one connection. On a line that loses packets the retries
            of TCP come too late, so a question is asked again on new connections; one answer is enough.
        on_hangup: called with rank and incarnation when the connection to a watched peer breaks.

    """

    def __init__(
        self, me: Asker, rank_ip: str, timeout: float, on_hangup: Callable[[int, str], None]
    ) -> None:
        self._me = me
        self._rank_ip = rank_ip
        self._timeout = timeout
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._tripwires = Tripwires(rank_ip, timeout, on_hangup)

    async def ask(self, record: Record) -> Verdict:
        """Ask a peer who it is and whether its workload is up. Never raises."""
        if not _addressable(record):
            return _SILENT
        made: list[socket.socket] = []
        pauses = itertools.count(1)
        try:
            async with self._asking, asyncio.timeout(self._timeout):
                return await insist(
                    lambda: self._try(record, made.append),
                    _INSIST,
                    lambda: next(pauses) % _DOUBT == 0 or not any(map(has_arrived, made)),
                )
        except TimeoutError:
            return _SILENT

    async def check(self, records: Collection[Record]) -> dict[str, ProbeResult]:
        """Tell for each incarnation who answers at its address, asked from our card; several at once."""
        verdicts = await asyncio.gather(*map(self.ask, records))
        return {
            record.incarnation: verdict.opinion for record, verdict in zip(records, verdicts, strict=True)
        }

    def watch(self, records: Collection[Record]) -> None:
        """Hold a connection to each of these, and to no other."""
        self._tripwires.watch(record for record in records if _addressable(record))

    def close(self) -> None:
        """Let go of all connections."""
        self._tripwires.watch(())

    async def _try(self, record: Record, on_connect: Callable[[socket.socket], None]) -> Verdict:
        """Ask on a connection of its own; one that comes to nothing is left to the next try."""
        nonce = secrets.token_hex(16)
        from unitagent.probes.question import get  # noqa: PLC0415 (h11; a Unit of one asks nobody)

        try:
            address, headers = (record.ip, record.port), {NONCE_HEADER: nonce, BRIEF_HEADER: "1"}
            answered = await get(address, "/status", headers, self._rank_ip, on_connect)
            return judge(record, answered, self._me, brief_question(nonce))
        except ConnectionRefusedError:
            return Verdict(ProbeResult.REFUSED)
        except ValueError:
            return _SILENT
        except OSError:
            nothing: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            return await nothing


def judge(record: Record, answered: Answered, me: Asker, nonce: str) -> Verdict:
    """Decide what an answer says about the agent that wrote ``record``."""
    rank, unit = _rank(answered), answered.headers.get(UNIT_HEADER.lower(), "")
    incarnation = answered.headers.get(INCARNATION_HEADER.lower(), "")
    if answered.code != 200 or rank is None or not incarnation:  # noqa: PLR2004
        return _SILENT
    if incarnation == me.incarnation:
        return Verdict(ProbeResult.SELF)
    if not _is_signed_as_mine(answered, me.keys, Claim(nonce, unit, rank, incarnation, answered.body)):
        return Verdict(ProbeResult.STRANGER)
    if (unit, incarnation) != (me.unit, record.incarnation):
        return Verdict(ProbeResult.OTHER)
    return _alive(record, answered.body) if rank == record.rank else _SILENT


def _is_signed_as_mine(answered: Answered, keys: Keyring, claim: Claim) -> bool:
    """Whether an answer has the signature that an agent with a secret of mine gives; without one, none."""
    signature = answered.headers.get(SIGNATURE_HEADER.lower(), "")
    return verify(keys, claim, signature) if keys else not signature


def _rank(answered: Answered) -> int | None:
    text = answered.headers.get(RANK_HEADER.lower(), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _RANK_DIGITS else None


class _Instance(msgspec.Struct, frozen=True):
    rank: int
    incarnation: str | None
    state: InstanceState
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Leader(msgspec.Struct, frozen=True):
    incarnation: str = ""
    age: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class _Status(msgspec.Struct, frozen=True):
    ready: bool
    instances: list[_Instance]
    leader: _Leader = _Leader()


def _alive(record: Record, body: bytes) -> Verdict:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _SILENT
    for instance in status.instances:
        if (instance.rank, instance.incarnation) == (record.rank, record.incarnation):
            working, leader = instance.state.started, status.leader
            return Verdict(
                ProbeResult.ALIVE,
                instance.generation,
                working,
                status.ready,
                leader.incarnation,
                leader.age,
            )
    return _SILENT


def _addressable(record: Record) -> bool:
    """Tell whether a record names an address and a port; the store may hold anything."""
    try:
        ip_address(record.ip)
    except ValueError:
        return False
    return 0 < record.port <= _MAX_PORT
