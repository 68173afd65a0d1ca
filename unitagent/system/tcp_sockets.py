"""The TCP sockets of this network namespace.

``/proc/net/tcp`` lists them all. Listeners are read by netlink, for which the kernel visits listeners only;
those tables cost it a walk over all connections (milliseconds of each restart). Without netlink (a sandbox
kernel) the tables are read for listeners, too.

sock_diag(7), ``<linux/inet_diag.h>``, ``<linux/netlink.h>``, proc(5).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states, an empty socket id
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_DONE, _ERROR = 3, 2
_TCP_LISTEN = 10
_PORT, _INODE = struct.Struct("!4xH"), struct.Struct("=68xI")  # within an answer
_BUFFER = 1 << 16
_ANSWER_TIMEOUT = 1.0  # seconds


class TcpState:
    """States of TCP as ``/proc/net/tcp`` writes them (include/net/tcp_states.h)."""

    ESTABLISHED = "01"
    LISTEN = "0A"


class TcpSocket(NamedTuple):
    """One TCP socket: its local port, and the inode that ``/proc/PID/fd`` links to."""

    port: int
    inode: str

    @property
    def link(self) -> str:
        """What a link in ``/proc/PID/fd`` to this socket shows."""
        return f"socket:[{self.inode}]"


def list_tcp_sockets(state: str) -> Iterator[TcpSocket]:
    """Yield the TCP sockets of this network namespace that are in a state; blocks.

    A table that cannot be read, as that of IPv6 where the kernel has none, counts as empty.
    """
    for table in _TCP_TABLES:
        try:
            with Path(table).open(encoding="ascii") as file:  # thousands of rows, of which few are wanted
                rows = [line.split() for line in file if f" {state} " in line]
        except OSError:
            continue
        for row in rows:
            if row[3] == state:
                yield TcpSocket(int(row[1].rpartition(":")[2], 16), row[9])


def list_listeners() -> list[TcpSocket]:
    """Return all TCP listeners. Blocks."""
    try:
        return query_listeners()
    except OSError:
        return list(list_tcp_sockets(TcpState.LISTEN))


def query_listeners() -> list[TcpSocket]:
    """Return the same from the kernel's own list of listeners, which takes it microseconds.

    Raises:
        OSError: this kernel does not answer.

    """
    try:
        return [*_query_listeners(socket.AF_INET), *_query_listeners(socket.AF_INET6)]
    except struct.error as error:
        raise OSError("invalid netlink message") from error


def _query_listeners(family: int) -> Iterator[TcpSocket]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    size = _HEADER.size + len(request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_TIMEOUT)
        kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            for kind, body in _parse_messages(kernel.recv(_BUFFER)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel refuses to list its sockets")
                yield TcpSocket(_PORT.unpack_from(body)[0], str(_INODE.unpack_from(body)[0]))


def _parse_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            raise OSError("invalid netlink message")
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]
