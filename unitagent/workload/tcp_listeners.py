"""Lists TCP listeners in our network namespace by netlink, for which the kernel visits listeners only; the
tables of ``/proc/net`` cost it a walk over all connections (milliseconds of each restart).

sock_diag(7), ``<linux/inet_diag.h>``, ``<linux/netlink.h>``. Without it (a sandbox kernel) ``/proc/net`` is
read.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states, an empty socket id
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_DONE, _ERROR = 3, 2
_TCP_LISTEN = 10
_PORT, _INODE = struct.Struct("!4xH"), struct.Struct("=68xI")  # within an answer
_BUFFER = 1 << 16
_SECONDS = 1.0

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"  # a state, in those

Inode = str  # as a link in /proc/PID/fd shows it: ``socket:[1234]``


def list_listeners() -> list[tuple[Inode, int]]:
    """Return socket and port of all TCP listeners. Blocks."""
    try:
        return query_listeners()
    except OSError:
        return list(_read_proc_net())


def query_listeners() -> list[tuple[Inode, int]]:
    """Return the same, from the kernel's own list of listeners, which takes it a few microseconds.

    Raises:
        OSError: this kernel does not tell.

    """
    try:
        return [*_query_kernel(socket.AF_INET), *_query_kernel(socket.AF_INET6)]
    except struct.error as error:
        raise OSError("invalid netlink message") from error


def _query_kernel(family: int) -> Iterator[tuple[Inode, int]]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    size = _HEADER.size + len(request)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            for kind, body in _parse_messages(kernel.recv(_BUFFER)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel refuses to list its sockets")
                yield f"socket:[{_INODE.unpack_from(body)[0]}]", _PORT.unpack_from(body)[0]


def _parse_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            raise OSError("invalid netlink message")
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _read_proc_net() -> Iterator[tuple[Inode, int]]:
    for path in _TABLES:
        try:
            with Path(path).open() as file:  # thousands of lines, few of them listeners
                rows = [line.split() for line in file if f" {_LISTEN} " in line]
        except OSError:
            continue
        for row in rows:
            if row[3] == _LISTEN:
                yield f"socket:[{row[9]}]", int(row[1].rpartition(":")[2], 16)
