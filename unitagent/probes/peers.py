"""Contact peers directly, without the store: ask for a second opinion, check reachability, and hold a
connection to each, which breaks when its agent dies: the fastest sign there is.

The invariant: silence proves nothing, and neither does an address. A peer counts as alive, or as replaced,
only if its answer is complete, names the incarnation, rank and Unit that gives it and, where the Unit has a
secret, is signed for this very question. It counts as refused only if its machine, or a firewall before it,
refuses. A connection that breaks is only a reason to ask; it never counts as the loss of a peer. One that
cannot be made, or that a proxy resets, costs a question now and then and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Struct, field

from unitagent.core.events import ProbeResult
from unitagent.core.model import InstanceState
from unitagent.probes.answer_signature import (
    BRIEF_HEADER,
    INCARNATION_HEADER,
    NONCE_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    UNIT_HEADER,
    AnswerClaim,
    make_brief_question,
    verify_answer,
)
from unitagent.system.addresses import connect_tcp, enable_keepalive
from unitagent.system.hedging import is_acknowledged, run_hedged
from unitagent.system.keyring import Keyring
from unitagent.system.limits import MAX_PORT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterable

    from unitagent.core.model import Record
    from unitagent.probes.peer_http import HttpResponse


_ASKED_AT_ONCE = 32
_HEDGE_DELAY = 0.1  # seconds after which a lost question is asked again in parallel
_DOUBT_EVERY = 5  # of so many pauses, one ends so though the question has arrived: its answer may be lost
_RANK_DIGITS = 4  # sizes end at 1024


class PeerVerdict(NamedTuple):
    """The result of asking a peer; all fields but the first are valid only if it is alive.

    Attributes:
        generation: the one the peer stands in.
        working: its workload is up in that generation.
        ready: it reports that the whole Unit serves.
        leader: incarnation of the rank 0 that has vouched for it, or that it is; "" where none has.
        leader_age: seconds since it asked what that rank 0 answered.

    """

    result: ProbeResult
    generation: int = 0
    working: bool = False
    ready: bool = False
    leader: str = ""
    leader_age: float = 0.0


_SILENT = PeerVerdict(ProbeResult.SILENT)


class PeerAsker(Struct, frozen=True):
    """Who asks: my Unit and my own incarnation, and the keys that my Unit signs with, if it has any."""

    unit: str
    incarnation: str
    keys: Keyring = field(default_factory=Keyring)


class Peers:
    """The other agents of the Unit, reached from our interface at the addresses in their records.

    Attributes:
        timeout: seconds for one question, or for one connection. On a line that loses packets the retries
            of TCP come too late, so a question is asked again on new connections; one answer is enough.
        on_hangup: called with rank and incarnation when the connection to a watched peer breaks.

    """

    def __init__(
        self, me: PeerAsker, rank_ip: str, timeout: float, on_hangup: Callable[[int, str], None]
    ) -> None:
        self._me = me
        self._rank_ip = rank_ip
        self._timeout = timeout
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._watcher = PeerConnectionWatcher(rank_ip, timeout, on_hangup)

    async def ask_peer(self, record: Record) -> PeerVerdict:
        """Ask a peer who it is and whether its workload is up. Never raises."""
        if not _is_addressable(record):
            return _SILENT
        made: list[socket.socket] = []
        pauses = itertools.count(1)
        try:
            async with self._asking, asyncio.timeout(self._timeout):
                return await run_hedged(
                    lambda: self._ask_once(record, made.append),
                    _HEDGE_DELAY,
                    lambda: next(pauses) % _DOUBT_EVERY == 0 or not any(map(is_acknowledged, made)),
                )
        except TimeoutError:
            return _SILENT

    async def check_peers(self, records: Collection[Record]) -> dict[str, ProbeResult]:
        """Tell for each incarnation who answers at its address, asked from our interface; several at once."""
        verdicts = await asyncio.gather(*map(self.ask_peer, records))
        return {record.incarnation: verdict.result for record, verdict in zip(records, verdicts, strict=True)}

    def watch_peers(self, records: Collection[Record]) -> None:
        """Hold a connection to each of these, and to no other."""
        self._watcher.watch_peers(record for record in records if _is_addressable(record))

    def close(self) -> None:
        """Close all connections."""
        self._watcher.watch_peers(())

    async def _ask_once(self, record: Record, on_connect: Callable[[socket.socket], None]) -> PeerVerdict:
        """Ask on a separate connection; a failed attempt waits for the next one."""
        nonce = secrets.token_hex(16)
        from unitagent.probes.peer_http import get_response  # noqa: PLC0415 (h11; a Unit of one asks nobody)

        try:
            address, headers = (record.ip, record.port), {NONCE_HEADER: nonce, BRIEF_HEADER: "1"}
            response = await get_response(address, "/status", headers, self._rank_ip, on_connect)
            return judge_answer(record, response, self._me, make_brief_question(nonce))
        except ConnectionRefusedError:
            return PeerVerdict(ProbeResult.REFUSED)
        except ValueError:
            return _SILENT
        except OSError:
            nothing: asyncio.Future[PeerVerdict] = asyncio.get_running_loop().create_future()
            return await nothing


def judge_answer(record: Record, response: HttpResponse, me: PeerAsker, nonce: str) -> PeerVerdict:
    """Decide what an answer says about the agent that wrote ``record``."""
    rank, unit = _parse_rank(response), response.headers.get(UNIT_HEADER.lower(), "")
    incarnation = response.headers.get(INCARNATION_HEADER.lower(), "")
    if response.code != 200 or rank is None or not incarnation:  # noqa: PLR2004
        return _SILENT
    if incarnation == me.incarnation:
        return PeerVerdict(ProbeResult.SELF)
    if not _is_signed_as_mine(response, me.keys, AnswerClaim(nonce, unit, rank, incarnation, response.body)):
        return PeerVerdict(ProbeResult.STRANGER)
    if (unit, incarnation) != (me.unit, record.incarnation):
        return PeerVerdict(ProbeResult.OTHER)
    return _judge_status(record, response.body) if rank == record.rank else _SILENT


def _is_signed_as_mine(response: HttpResponse, keys: Keyring, claim: AnswerClaim) -> bool:
    """Whether an answer has the signature that an agent with a secret of mine gives; without one, none."""
    signature = response.headers.get(SIGNATURE_HEADER.lower(), "")
    return verify_answer(keys, claim, signature) if keys else not signature


def _parse_rank(response: HttpResponse) -> int | None:
    text = response.headers.get(RANK_HEADER.lower(), "")
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


def _judge_status(record: Record, body: bytes) -> PeerVerdict:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _SILENT
    for instance in status.instances:
        if (instance.rank, instance.incarnation) == (record.rank, record.incarnation):
            working, leader = instance.state.started, status.leader
            return PeerVerdict(
                ProbeResult.ALIVE,
                instance.generation,
                working,
                status.ready,
                leader.incarnation,
                leader.age,
            )
    return _SILENT


def _is_addressable(record: Record) -> bool:
    """Tell whether a record names an address and a port; the store may hold anything."""
    try:
        ip_address(record.ip)
    except ValueError:
        return False
    return 0 < record.port <= MAX_PORT


FIRST_PAUSE, MAX_PAUSE = 0.1, 3.0  # seconds between attempts: the first pause, and the longest
MAX_PAUSE_AFTER_BREAKS = 60.0  # seconds, where a peer has no place for us: to ask it again costs both of us


class _Peer(NamedTuple):
    rank: int
    incarnation: str
    ip: str
    port: int


class PeerConnectionWatcher:
    """The set of peers that are watched.

    Attributes:
        source: our address to connect from.
        timeout: seconds for one connection attempt.
        on_hangup: called with rank and incarnation when a held connection breaks; after that the peer is
            watched again only when ``watch`` names it again.

    """

    def __init__(self, source: str, timeout: float, on_hangup: Callable[[int, str], None]) -> None:
        self._source = source
        self._timeout = timeout
        self._on_hangup = on_hangup
        self._held: dict[_Peer, asyncio.Task[None]] = {}
        self._pauses: dict[_Peer, float] = {}  # before the next attempt, after breaks that came quickly

    def watch_peers(self, records: Iterable[Record]) -> None:
        """Watch these and no others; naming the same ones again changes nothing."""
        wanted = {_Peer(record.rank, record.incarnation, record.ip, record.port) for record in records}
        for peer in self._held.keys() - wanted:
            self._held.pop(peer).cancel()
            self._pauses.pop(peer, None)
        for peer in wanted:
            task = self._held.get(peer)
            if task is None or task.done():
                self._held[peer] = asyncio.create_task(self._hold_connection(peer), name=f"watch {peer.rank}")

    async def _hold_connection(self, peer: _Peer) -> None:
        await asyncio.sleep(self._pauses.get(peer, 0.0))
        wire = await self._connect_until_made(peer)
        since = asyncio.get_running_loop().time()
        try:
            await wire.broken
        finally:
            wire.abort()
        lasted = asyncio.get_running_loop().time() - since
        self._pauses[peer] = (
            _lengthen_pause(self._pauses.get(peer, 0.0), MAX_PAUSE_AFTER_BREAKS)
            if lasted < MAX_PAUSE
            else FIRST_PAUSE
        )
        self._on_hangup(peer.rank, peer.incarnation)

    async def _connect_until_made(self, peer: _Peer) -> _WatchedConnection:
        pause = 0.0
        while True:
            with suppress(OSError):
                _, wire = await connect_tcp(
                    _WatchedConnection(), peer.ip, peer.port, within=self._timeout, source=self._source
                )
                return wire
            pause = _lengthen_pause(pause)
            await asyncio.sleep(pause)


def _lengthen_pause(pause: float, longest: float = MAX_PAUSE) -> float:
    return min(longest, max(FIRST_PAUSE, 2 * pause))


class _WatchedConnection(asyncio.Protocol):
    """One held connection. An agent sends nothing unasked, so any data counts as a break."""

    def __init__(self) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        enable_keepalive(transport.get_extra_info("socket"), idle=2, interval=1)  # about 5 s

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self._mark_broken()
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._mark_broken()

    def abort(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()

    def _mark_broken(self) -> None:
        if not self.broken.done():
            self.broken.set_result(None)
