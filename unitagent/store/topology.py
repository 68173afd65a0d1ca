"""Find the server that holds a Unit's keys now, and connect to it: the server of the URL, the primary that
the sentinels name, or the cluster node that owns the Unit's slot.

Everything is read anew at each connect: the URL may have changed (a file was rewritten, rank 0 has another
address), and so may the server that it leads to. A failover therefore needs no code of its own.

The invariant: a source whose answer proved wrong is asked after all others. A sentinel that was cut off may
forever name a server that is a replica by now, or gone, while the others know better.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from unitagent.errors import RefusalError, StoreError, UnitAgentError
from unitagent.store.address import StoreKind, StoreLocation, parse_store_url
from unitagent.store.connection import (
    BeforeConnect,
    ServerAddress,
    connect_to_address,
    get_destination,
    open_connection,
    send_command,
)
from unitagent.store.errors import explain_error
from unitagent.system.host_port import join_host_port
from unitagent.system.threads import SingleFlight

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from unitagent.store.address import LocationSource


Host = tuple[str, int]


class ServerLocator:
    """Finds the server for one key; remembers a cluster's nodes, and which sources were wrong."""

    def __init__(self, key: str) -> None:
        self._slot = key_slot(key.encode())
        self._nodes: tuple[Host, ...] = ()
        self._believed: Host | None = None
        self._wrong: dict[Host, None] = {}  # whose word did not hold, the latest last

    async def locate_server(self, address: StoreLocation, timeout: float) -> ServerAddress:  # noqa: ASYNC109
        """Find the server, within ``timeout`` seconds.

        Raises:
            StoreError: none of the sentinels or nodes could tell.

        """
        match address.kind:
            case StoreKind.UNIX:
                return ServerAddress(path=address.path, db=address.db, login=address.login)
            case StoreKind.DIRECT:
                host = address.hosts[0]
            case StoreKind.SENTINEL:
                host = await self._ask_in_turn(address, address.hosts, timeout)
            case StoreKind.CLUSTER:
                known = dict.fromkeys((*address.hosts, *self._nodes))
                host = await self._ask_in_turn(address, tuple(known), timeout)
        return ServerAddress(
            host=host[0],
            port=host[1],
            db=address.db,
            login=address.login,
            tls=address.tls,
            primary=address.kind is StoreKind.SENTINEL,
        )

    def deprioritize_source(self) -> None:
        """Ask the source that named the last server after all others, because that server was useless."""
        if self._believed is not None:
            self._mark_wrong(self._believed)

    def _mark_wrong(self, host: Host) -> None:
        self._wrong.pop(host, None)
        self._wrong[host] = None

    async def _ask_in_turn(self, address: StoreLocation, hosts: tuple[Host, ...], timeout: float) -> Host:  # noqa: ASYNC109
        """Ask the hosts in turn, each for its share of the time."""
        share, trouble = timeout / len(hosts), ""
        for host in self._sort_by_trust(hosts):
            try:
                async with asyncio.timeout(share):
                    answer = await self._ask_host(address, host, share)
            except Exception as error:  # noqa: BLE001  # the next one may know
                trouble = str(explain_error(error, join_host_port(*host), to=address))
                answer = None
            else:
                trouble = f"{join_host_port(*host)} {_explain_unknown(address)}"
            if answer:
                self._believed = host
                return answer
            self._mark_wrong(host)
        raise StoreError(f"none of {address.place} could name the server to use: {trouble}")

    def _sort_by_trust(self, hosts: tuple[Host, ...]) -> list[Host]:
        return [host for host in hosts if host not in self._wrong] + [
            host for host in self._wrong if host in hosts
        ]

    async def _ask_host(self, address: StoreLocation, host: Host, timeout: float) -> Host | None:  # noqa: ASYNC109
        login = address.sentinel_login if address.kind is StoreKind.SENTINEL else address.login
        endpoint = ServerAddress(host=host[0], port=host[1], login=login, tls=address.tls)
        connection = await open_connection(endpoint, timeout)
        try:
            if address.kind is StoreKind.SENTINEL:
                return await _ask_sentinel(connection, address.service)
            return self._find_slot_owner(await send_command(connection, "CLUSTER", "SLOTS"), host)
        finally:
            await connection.disconnect(nowait=True)

    def _find_slot_owner(self, slots: list[Any], asked: Host) -> Host | None:
        """Pick my slot's owner from ``[first, last, [host, port, …], …]``; an empty host is the one asked."""
        owners = [
            (low, high, ((primary[0] or b"").decode() or asked[0], int(primary[1])))
            for low, high, primary, *_ in slots
        ]
        self._nodes = tuple(host for _, _, host in owners)
        return next((host for low, high, host in owners if low <= self._slot <= high), None)


def _explain_unknown(address: StoreLocation) -> str:
    if address.kind is StoreKind.SENTINEL:
        return f"knows no primary for {address.service}; correct that name at the end of {address.variable}"
    return "knows no primary for these keys; assign all slots of the cluster"


async def _ask_sentinel(connection: AbstractConnection, service: str) -> Host | None:
    answer = await send_command(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return (answer[0].decode(), int(answer[1])) if answer else None


_URLS = SingleFlight()
_MOST_ASKED = 3  # sentinels or nodes that are believed one after the other, before the next try


class Dialer:
    """Makes connections to the server that holds one key.

    Attributes:
        address: what was understood of the URL last; None before it was read.
        place: the server last dialled, for people.

    """

    def __init__(self, url: str | LocationSource, key: str) -> None:
        self._url = parse_store_url(url) if isinstance(url, str) else url
        self._locator = ServerLocator(key)
        self.address = self._url if isinstance(self._url, StoreLocation) else None
        self.place = self._url.place if isinstance(self._url, StoreLocation) else "an address not known yet"

    async def dial_server(
        self,
        timeout: float,  # noqa: ASYNC109
        begun: BeforeConnect = lambda _: None,
        beside: AbstractConnection | None = None,
    ) -> AbstractConnection:
        """Connect and log in; the caller bounds the whole, ``timeout`` seconds, and explains errors.

        ``begun`` is given each connection to the server before it is made. Where another connection leads,
        one ``beside`` it goes without asking anybody: a name server that hangs is waited for only once.
        """
        if beside is not None and (destination := get_destination(beside)) is not None:
            return await connect_to_address(*destination, begun)
        self.address = address = await self._read_location()
        self.place = address.place
        return await self._connect_located(address, timeout, begun)

    def deprioritize_source(self) -> None:
        """Trust another source next time, because the server that was dialled last was useless."""
        self._locator.deprioritize_source()

    async def _connect_located(
        self,
        address: StoreLocation,
        timeout: float,  # noqa: ASYNC109
        begun: BeforeConnect,
    ) -> AbstractConnection:
        """Connect to the server, or to the one that another source names."""
        trouble: dict[str, Exception] = {}
        for _ in address.hosts[:_MOST_ASKED] or (None,):
            endpoint = await self._locator.locate_server(address, timeout)
            if endpoint.place not in trouble:
                self.place = endpoint.place
                try:
                    return await open_connection(endpoint, timeout, begun)
                except Exception as error:  # noqa: BLE001  # raised if no source names another server
                    trouble[endpoint.place] = error
            self._locator.deprioritize_source()
        raise trouble[self.place]

    async def _read_location(self) -> StoreLocation:
        url = self._url
        if isinstance(url, StoreLocation):
            return url
        return await _URLS.run(url, lambda: _read_source(url))


def _read_source(url: LocationSource) -> StoreLocation:
    """Read the current location; blocks."""
    try:
        location = url()
        return parse_store_url(location) if isinstance(location, str) else location
    except RefusalError as error:
        raise StoreError(f"UNIT_REDIS_URL: {error}") from error
    except UnitAgentError as error:
        raise StoreError(str(error)) from error
    except Exception as error:
        raise StoreError(f"the URL of the store cannot be read: {error}") from error
