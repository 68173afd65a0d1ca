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
from unitagent.store.address import Address, Kind, join_host
from unitagent.store.connection import Endpoint, call, connect
from unitagent.store.trouble import explain

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

Host = tuple[str, int]


class Locator:
    """Finds the server for one key; remembers which servers of a cluster there are, and who was wrong."""

    def __init__(self, key: str) -> None:
        self._slot = key_slot(key.encode())
        self._nodes: tuple[Host, ...] = ()
        self._believed: Host | None = None
        self._wrong: dict[Host, None] = {}  # whose word did not hold, the latest last

    async def locate(self, address: Address, timeout: float) -> Endpoint:  # noqa: ASYNC109
        """Find the server, within ``timeout`` seconds.

        Raises:
            StoreError: none of the sentinels or nodes could tell.

        """
        match address.kind:
            case Kind.UNIX:
                return Endpoint(path=address.path, db=address.db, login=address.login)
            case Kind.DIRECT:
                host = address.hosts[0]
            case Kind.SENTINEL:
                host = await self._first(address, address.hosts, timeout)
            case Kind.CLUSTER:
                known = dict.fromkeys((*address.hosts, *self._nodes))
                host = await self._first(address, tuple(known), timeout)
        return Endpoint(
            host=host[0],
            port=host[1],
            db=address.db,
            login=address.login,
            tls=address.tls,
            primary=address.kind is Kind.SENTINEL,
        )

    def refute(self) -> None:
        """The server found last is of no use: ask whoever named it after all others."""
        if self._believed is not None:
            self._discredit(self._believed)

    def _discredit(self, host: Host) -> None:
        self._wrong.pop(host, None)
        self._wrong[host] = None

    async def _first(self, address: Address, hosts: tuple[Host, ...], timeout: float) -> Host:  # noqa: ASYNC109
        """Ask one after the other, each for its share of the time."""
        share, trouble = timeout / len(hosts), ""
        for host in self._by_credit(hosts):
            try:
                async with asyncio.timeout(share):
                    found = await self._ask(address, host, share)
            except Exception as error:  # noqa: BLE001  # the next one may know
                trouble = str(explain(error, join_host(host), to=address))
                found = None
            else:
                trouble = f"{join_host(host)} {_unknown(address)}"
            if found:
                self._believed = host
                return found
            self._discredit(host)
        raise StoreError(f"none of {address.place} could name the server to use: {trouble}")

    def _by_credit(self, hosts: tuple[Host, ...]) -> list[Host]:
        return [host for host in hosts if host not in self._wrong] + [
            host for host in self._wrong if host in hosts
        ]

    async def _ask(self, address: Address, host: Host, timeout: float) -> Host | None:  # noqa: ASYNC109
        login = address.sentinel_login if address.kind is Kind.SENTINEL else address.login
        endpoint = Endpoint(host=host[0], port=host[1], login=login, tls=address.tls)
        connection = await connect(endpoint, timeout)
        try:
            if address.kind is Kind.SENTINEL:
                return await _primary(connection, address.service)
            return self._owner(await call(connection, "CLUSTER", "SLOTS"), host)
        finally:
            await connection.disconnect(nowait=True)

    def _owner(self, slots: list[Any], asked: Host) -> Host | None:
        """Pick my slot's owner from ``[first, last, [host, port, …], …]``; an empty host is the one asked."""
        owners = [
            (low, high, ((primary[0] or b"").decode() or asked[0], int(primary[1])))
            for low, high, primary, *_ in slots
        ]
        self._nodes = tuple(host for _, _, host in owners)
        return next((host for low, high, host in owners if low <= self._slot <= high), None)


def _unknown(address: Address) -> str:
    if address.kind is Kind.SENTINEL:
        return f"knows no primary for {address.service}; correct that name at the end of {address.variable}"
    return "knows no primary for these keys; give the cluster all its slots"


async def _primary(connection: AbstractConnection, service: str) -> Host | None:
    answer = await call(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    return (answer[0].decode(), int(answer[1])) if answer else None
