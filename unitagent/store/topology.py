"""Which server holds a Unit's keys right now: the given one, the primary that the sentinels name,
or the cluster node that owns the Unit's slot. Asked anew at each connect, so a failover needs no code.

The invariant: none of them is believed twice in a row when its word did not hold. A sentinel that was cut off
may name a server for ever that is a replica by now, or gone, while the others know better.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from unitagent.errors import StoreError
from unitagent.store.address import StoreKind, StoreLocation, join_host
from unitagent.store.connection import ServerAddress, open_connection, send_command
from unitagent.store.errors import explain_error

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

Host = tuple[str, int]


class ServerLocator:
    """Finds the server for one key; remembers which servers of a cluster there are, and who was wrong."""

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

    def distrust_source(self) -> None:
        """The server found last is of no use: ask whoever named it after all others."""
        if self._believed is not None:
            self._mark_wrong(self._believed)

    def _mark_wrong(self, host: Host) -> None:
        self._wrong.pop(host, None)
        self._wrong[host] = None

    async def _ask_in_turn(self, address: StoreLocation, hosts: tuple[Host, ...], timeout: float) -> Host:  # noqa: ASYNC109
        """Ask one after the other, each for its share of the time."""
        share, trouble = timeout / len(hosts), ""
        for host in self._sort_by_trust(hosts):
            try:
                async with asyncio.timeout(share):
                    found = await self._ask_host(address, host, share)
            except Exception as error:  # noqa: BLE001  # the next one may know
                trouble = str(explain_error(error, join_host(host), to=address))
                found = None
            else:
                trouble = f"{join_host(host)} {_explain_unknown(address)}"
            if found:
                self._believed = host
                return found
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
    return "knows no primary for these keys; give the cluster all its slots"


async def _ask_sentinel(connection: AbstractConnection, service: str) -> Host | None:
    answer = await send_command(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return (answer[0].decode(), int(answer[1])) if answer else None
