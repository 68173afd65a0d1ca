"""The TCP sockets of this network namespace, as ``/proc/net/tcp`` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


class TcpState:
    """States of TCP as ``/proc/net/tcp`` writes them (include/net/tcp_states.h)."""

    ESTABLISHED = "01"
    LISTEN = "0A"


class TcpSocket(NamedTuple):
    """One row of ``/proc/net/tcp``: the local port, and the inode that ``/proc/PID/fd`` links to."""

    port: int
    inode: str


def list_tcp_sockets(state: str) -> Iterator[TcpSocket]:
    """Yield the TCP sockets of this network namespace that are in a state (proc(5)); blocks.

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
