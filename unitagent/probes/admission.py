"""Admit connections to the probe address, and choose whom to disconnect when all places are taken.

The invariants: no crowd locks another client out. Connections are counted by network (a /24 of IPv4, a /64
of IPv6), because an attacker with many addresses has neighbouring ones; a quarter of the places is reserved
for this host and the Unit's instances; and a client that waits for its first answer is kept for
``PATIENCE`` seconds. When all places belong to such clients, newcomers wait in the kernel's queue: a
rejected client would come back at once.

Requests take turns (:class:`FairQueue`): one per turn of the event loop, round robin over lanes, and within a
lane over addresses. However many clients send however many requests, the agent's own work waits for one
request at a time, a lane for one request of each other lane, and the first request of an address for one of
each other address in its lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import resource
import socket
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Queue = dict[object, Callable[[], None]]


_log = logging.getLogger(__name__)

LIMIT = 512  # places, in a Unit of any size
_PER_INSTANCE = 2  # places: one that it holds, and one with which it asks
PATIENCE = 1.0  # seconds
_FIRST_WORD = 0.1  # seconds that a client may take to send its first byte; a probe sends it at once
_FOREIGN_FRACTION = 3, 4  # of the places are open to clients that are neither this host nor the Unit
_NETWORK_PREFIX_BITS = {4: 24, 6: 64}  # by IP version; addresses with one prefix are one client network


def compute_connection_limit(size: int = 1) -> int:
    """Return the places for connections in a Unit of this size: half of all files at most, since the rest is
    for the agent's own work.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count_wanted_places(size)
    return wanted if files == resource.RLIM_INFINITY else max(1, min(wanted, files // 2))


def count_wanted_places(size: int) -> int:
    """Count the places that a Unit of this size may need."""
    return max(LIMIT, _PER_INSTANCE * size)


class ClientOrigin(NamedTuple):
    """Where a connection comes from.

    Attributes:
        party: whom a turn belongs to: an address of IPv4, a network of IPv6.
        network: whom a place belongs to.

    """

    address: str
    party: str
    network: str


def parse_origin(address: str) -> ClientOrigin:
    """Return the parts of the address of a socket, which may be IPv4 in the form of IPv6, or have a zone."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ClientOrigin(address, address, address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    network = str(ipaddress.ip_network((parsed, _NETWORK_PREFIX_BITS[parsed.version]), strict=False))
    return ClientOrigin(str(parsed), str(parsed) if parsed.version == 4 else network, network)  # noqa: PLR2004


@dataclass(slots=True, eq=False)
class Client:
    """One connection.

    Attributes:
        own: of this host, or of an instance of the Unit.
        since: when it came.
        asked: since when a whole request waits for its answer.
        answered: whether there has been an answer.
        transport: None until the connection is made.
        gone: it was sent away, perhaps before it was made.

    """

    origin: ClientOrigin
    own: bool
    since: float
    asked: float | None = None
    answered: bool = False
    transport: asyncio.Transport | None = None
    gone: bool = False

    def rank_claim(self, now: float) -> int:
        """Rank the reason to keep it: 0 none, 1 it waits for an answer, 2 it waits for its first one."""
        if self.asked is None:
            return 2 if now - self.since < _FIRST_WORD and not self.answered else 0
        if now - self.asked > PATIENCE:
            return 0
        return 1 if self.answered else 2

    def disconnect_client(self) -> None:
        """Disconnect this client."""
        self.gone = True
        if self.transport is not None:
            self.transport.abort()


class ClientTable:
    """All of them, oldest first.

    Args:
        limit: how many there may be.
        peers: addresses of the Unit's instances.

    """

    def __init__(self, limit: int, peers: Callable[[], Collection[str]]) -> None:
        self._limit = limit
        self._peers = peers
        self._clients: dict[Client, None] = {}
        self._has_warned = False

    def __len__(self) -> int:
        return len(self._clients)

    def admit_client(self, address: str, here: str, now: float) -> Client | None:
        """Admit a client, disconnecting another if all places are taken; None if that is impossible."""
        client = Client(parse_origin(address), self.is_own(address, here), now)
        self._clients[client] = None
        if len(self._clients) > self._limit:
            victim = self._choose_victim(now, client)
            if victim is None:
                del self._clients[client]
                return None
            self._warn_once(victim)
            self.remove_client(victim)
            victim.disconnect_client()
        return client

    def is_own(self, address: str, here: str) -> bool:
        """Whether it is this host, which sees itself at the address that it connects to, or an instance."""
        return address == here or parse_origin(address).address in self._peers()

    def remove_client(self, client: Client) -> None:
        """Forget one that has ended."""
        self._clients.pop(client, None)

    def close(self) -> None:
        """Disconnect all of them."""
        for client in list(self._clients):
            client.disconnect_client()
        self._clients.clear()

    def _warn_once(self, victim: Client) -> None:
        if self._has_warned or victim.origin.address not in self._peers():
            return
        self._has_warned = True
        _log.warning(
            "the probe address allows %d connections (at most half of the limit of open files), fewer than "
            "the instances of this Unit need; those without a connection detect a dead peer only when its "
            "lease expires (raise the limit: docker run --ulimit nofile=65536:65536)",
            self._limit,
        )

    def _choose_victim(self, now: float, newcomer: Client) -> Client | None:
        """Choose, among those with the lowest rank, the oldest client of the largest network. If that one is
        our own, choose the newest of our own, so that those who are connected stay so.
        """
        foreign = [client for client in self._clients if not client.own]
        share, of = _FOREIGN_FRACTION
        crowd = foreign if len(foreign) * of > self._limit * share else list(self._clients)
        claims = [(client.rank_claim(now), client) for client in crowd if client is not newcomer]
        least = min((claim for claim, _ in claims), default=2)
        if least > 1:
            return None
        networks = Counter(client.origin.network for client in crowd)
        addresses = Counter(client.origin.address for client in crowd)
        likely = [client for claim, client in claims if claim == least]
        chosen = max(
            likely, key=lambda client: (networks[client.origin.network], addresses[client.origin.address])
        )
        if not chosen.own:
            return chosen
        own = reversed([client for client in likely if client.own])
        return max(own, key=lambda client: addresses[client.origin.address])


_BACKLOG = 4096  # connections that the kernel keeps for us; it may allow fewer
_AT_ONCE = 32
_SOON = 0.02  # seconds until a place may have become free
_LATER = 1.0  # seconds until there may be a file again
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """One listening socket.

    Args:
        make: the protocol for a guest.

    """

    def __init__(
        self, listener: socket.socket, clients: ClientTable, make: Callable[[Client], asyncio.Protocol]
    ) -> None:
        self._listener = listener
        self._clients = clients
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._held: socket.socket | None = None  # who waits at the door, out of the queue already
        self._coming: set[asyncio.Task[None]] = set()

    def open_listener(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._accept_batch)

    def close(self) -> None:
        """Listen no more."""
        if self._pause is not None:
            self._pause.cancel()
        if self._held is not None:
            self._held.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept_batch(self) -> None:
        for _ in range(_AT_ONCE):
            connected = self._held or self._accept_one()
            if connected is None:
                return
            self._held = None
            client = self._clients.admit_client(*_get_addresses(connected), self._loop.time())
            if client is None:
                self._held = connected
                self._pause_accepting(_SOON)
                return
            coming = self._loop.create_task(self._attach_protocol(connected, client))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)

    def _accept_one(self) -> socket.socket | None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:  # else it is an error of that one connection, or there is none (accept(2))
            if error.errno in _NONE_LEFT:
                _log.debug("no connection can be taken in: %s", error)
                self._pause_accepting(_LATER)
            return None
        client.setblocking(False)
        return client

    def _pause_accepting(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume_accepting)

    def _resume_accepting(self) -> None:
        self._loop.add_reader(self._listener, self._accept_batch)
        if self._held is not None:
            self._accept_batch()

    async def _attach_protocol(self, connected: socket.socket, client: Client) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(client), connected)
        except OSError:
            self._clients.remove_client(client)
            connected.close()


def _get_addresses(client: socket.socket) -> tuple[str, str]:
    """The address that it comes from, and the one of ours that it has connected to."""
    with contextlib.suppress(OSError):  # it has gone already
        return str(client.getpeername()[0]), str(client.getsockname()[0])
    return "", "?"


class Lane(IntEnum):
    """Requests that wait together. A crowd in one lane takes only the share of that lane."""

    OWN = 0  # this host and the Unit's instances
    LIVENESS = 1  # liveness probes
    OTHER = 2


class FairQueue:
    """Waiting requests by lane and address; those of one address in order of arrival."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, dict[str, Queue]] = {}
        self._scheduled = False

    def enqueue_request(
        self, address: str, who: object, act: Callable[[], None], lane: Lane = Lane.OTHER
    ) -> None:
        """Call ``act`` in a later turn of the loop; a request that waits already keeps its place."""
        self._lanes.setdefault(lane, {}).setdefault(address, {})[who] = act
        self._schedule_next()

    def discard_request(self, address: str, who: object) -> None:
        """Remove a request."""
        for lane, waiting in list(self._lanes.items()):
            queue = waiting.get(address, {})
            queue.pop(who, None)
            if not queue:
                waiting.pop(address, None)
            if not waiting:
                del self._lanes[lane]

    def _schedule_next(self) -> None:
        if self._lanes and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run_next)

    def _run_next(self) -> None:
        self._scheduled = False
        if not self._lanes:
            return
        act = self._pop_next()
        self._schedule_next()
        act()

    def _pop_next(self) -> Callable[[], None]:
        """Take the first out; its lane and its address go behind all others."""
        lane, waiting = next(iter(self._lanes.items()))
        del self._lanes[lane]
        address, queue = next(iter(waiting.items()))
        del waiting[address]
        act = queue.pop(next(iter(queue)))
        if queue:
            waiting[address] = queue
        if waiting:
            self._lanes[lane] = waiting
        return act
