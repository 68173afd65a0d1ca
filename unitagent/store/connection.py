"""One connection to one server. Names are resolved and TLS files loaded outside the event loop.

redis-py's connection classes speak the protocol. Its pools and clients, which retry by themselves, are not
used: the agent must see every break of contact.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import AuthenticationError, InvalidResponse, ReadOnlyError, ResponseError

from unitagent.store.address import NOBODY, Login
from unitagent.system.addresses import is_ip_literal
from unitagent.system.hedging import is_acknowledged
from unitagent.system.host_port import join_host_port
from unitagent.system.threads import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Mapping


_CERTIFICATES = SingleFlight()
MAX_ANSWER_BYTES = 32 << 20  # bytes; the records of 1024 ranks, each as long as one may be, are half of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """One server, and how to get in; ``path`` is set for a socket file, else host and port.

    Attributes:
        primary: somebody named it as one, and if it says that it is a replica it is left.

    """

    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0
    primary: bool = False
    login: Login = NOBODY
    tls: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The server as a person reads it in an error."""
        return self.path or join_host_port(self.host, self.port)


class _LimitedStream:
    """A stream that refuses an answer longer than any of ours: the other side may send without end."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, size: int = -1) -> bytes:
        data = await self._stream.read(size)
        self.taken += len(data)
        if self.taken > MAX_ANSWER_BYTES:
            raise InvalidResponse(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MiB")
        return data


class _LimitedParser(DefaultParser):  # type: ignore[valid-type, misc]  # redis-py chooses it as it is imported
    """redis-py's parser, over a stream with a limit."""

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)
        self._stream: Any = _LimitedStream(self._stream)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        self._stream.taken = 0
        return await super().read_response(*args, **options)


class _ResolvedConnection(Connection):
    """A connection to an address that is already resolved."""

    endpoint: ServerAddress
    address = ""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self.address}


class _ResolvedTLSConnection(SSLConnection):
    """The same with TLS, where the certificate is still held against the name."""

    endpoint: ServerAddress
    address = ""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self.address, "server_hostname": self.host}


BeforeConnect = Callable[[AbstractConnection], None]


async def open_connection(
    endpoint: ServerAddress,
    timeout: float,  # noqa: ASYNC109
    begun: BeforeConnect = lambda _: None,
) -> AbstractConnection:
    """Connect and log in; of several addresses of a name each gets its share of ``timeout`` seconds.

    ``begun`` is called with each connection before it is made.

    Raises:
        OSError, redis.exceptions.RedisError, TimeoutError: of the last address tried.

    """
    if endpoint.path:
        return await _complete_connection(
            UnixDomainSocketConnection(path=endpoint.path, **_build_arguments(endpoint)), endpoint, begun
        )
    addresses = await resolve_host(endpoint.host)
    *spare, last = addresses
    for address in spare:
        try:
            async with asyncio.timeout(timeout / len(addresses)):
                return await _ping_or_close(await connect_to_address(endpoint, address, begun))
        except Exception:  # noqa: BLE001, S112  # the last address reports its own error
            continue
    return await connect_to_address(endpoint, last, begun)


def get_destination(connection: AbstractConnection) -> tuple[ServerAddress, str] | None:
    """Where a connection leads, or was to lead: the server, and its address; None for a socket file."""
    if isinstance(connection, _ResolvedConnection | _ResolvedTLSConnection):
        return connection.endpoint, connection.address
    return None


async def send_command(connection: AbstractConnection, *words: str | bytes | int) -> Any:
    """Send one command and return its answer."""
    await connection.send_command(*words)
    return await connection.read_response()


def is_connection_acknowledged(connection: AbstractConnection) -> bool:
    """Whether the server's machine has acknowledged all that was sent."""
    writer = connection._writer  # noqa: SLF001  # redis-py shows its socket nowhere else
    if writer is None:
        return False
    wire: socket.socket = writer.get_extra_info("socket")
    return wire.family == socket.AF_UNIX or is_acknowledged(wire)


async def connect_to_address(
    endpoint: ServerAddress, address: str, begun: BeforeConnect = lambda _: None
) -> AbstractConnection:
    """Connect and log in at one address of the server, with the first password that it does not refuse.

    ``begun`` is called with each connection before it is made.
    """
    *others, last = endpoint.login.password, *endpoint.login.others
    for password in others:
        with suppress(AuthenticationError):
            return await _connect_with_password(endpoint, address, password, begun)
    return await _connect_with_password(endpoint, address, last, begun)


async def _connect_with_password(
    endpoint: ServerAddress, address: str, password: str, begun: BeforeConnect
) -> AbstractConnection:
    arguments = _build_arguments(endpoint) | {"host": endpoint.host, "port": endpoint.port}
    arguments["password"] = password or None
    connection: _ResolvedConnection | _ResolvedTLSConnection
    if endpoint.tls is None:
        connection = _ResolvedConnection(**arguments)
    else:
        connection = _ResolvedTLSConnection(**arguments, **endpoint.tls)
        files = connection.ssl_context
        files.context = await _CERTIFICATES.run(tuple(endpoint.tls.items()), files.get)
    connection.endpoint, connection.address = endpoint, address
    return await _complete_connection(connection, endpoint, begun)


async def _complete_connection(
    connection: AbstractConnection, endpoint: ServerAddress, begun: BeforeConnect
) -> AbstractConnection:
    begun(connection)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        if endpoint.primary:
            await _reject_replica(connection)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _reject_replica(connection: AbstractConnection) -> None:
    """Reject a server that calls itself a replica in HELLO, which no ACL forbids."""
    try:
        greeting = await send_command(connection, "HELLO", 2)
    except ResponseError:  # a proxy that does not know HELLO; a write will tell
        return
    if (
        isinstance(greeting, list)
        and dict(zip(greeting[::2], greeting[1::2], strict=False)).get(b"role") == b"replica"
    ):
        raise ReadOnlyError("READONLY")


async def _ping_or_close(connection: AbstractConnection) -> AbstractConnection:
    """Get one answer while there is another address to try: a hung or refusing server is not used."""
    try:
        await send_command(connection, "PING")
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def _build_arguments(endpoint: ServerAddress) -> dict[str, Any]:
    """Arguments of every connection. Timeouts are set around whole operations, so none in here."""
    return {
        "db": endpoint.db,
        "username": endpoint.login.username or None,
        "password": endpoint.login.password or None,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "parser_class": _LimitedParser,
        "protocol": 2,  # pushes arrive on a connection of their own
        "driver_info": None,  # no CLIENT SETINFO: one permission less to ask for
    }


_LOOKUPS = SingleFlight()  # shared by all connections of the process


async def resolve_host(host: str) -> list[str]:
    """Return the addresses of a name, in the order of the system's preference.

    Raises:
        OSError: nobody knows the name.

    """
    if is_ip_literal(host):
        return [str(ip_address(host))]
    return await _LOOKUPS.run(host, lambda: resolve_blocking(host))


def resolve_blocking(host: str) -> list[str]:
    """Look a name up; blocks. Each address once."""
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in entries))


def find_pending_lookup(place: str) -> str:
    """Find a name of ``host:port,host:port`` that is still being looked up; "" for none."""
    hosts = (host.rpartition(":")[0].strip("[]") for host in place.split(","))
    return next(filter(_LOOKUPS.is_under_way, hosts), "")
