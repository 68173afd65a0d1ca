"""Ports for servers of tests: what runs at the same time, in this run or in another, takes different ones.

The invariant: a number is given out once among all living test processes of a network namespace. The kernel
keeps the list: who has a number holds an abstract Unix socket of that name, which ends with the process.
"""

from __future__ import annotations

import socket
from random import SystemRandom

_FIRST, _LAST = 12000, 20000  # below what agents take master ports from, and the kernel ports for connections

_held: list[socket.socket] = []


def free_port() -> int:
    """A port that is free on all addresses, as is the one above it, where the embedded store goes."""
    chance = SystemRandom()  # a seed that a test has set would lead all to the same numbers
    while True:
        port = chance.randrange(_FIRST, _LAST, 2)
        if _is_free(port) and _is_free(port + 1) and _claimed(port):
            return port


def served_port() -> int:
    """A port of loopback that takes connections for as long as this process lives, and says nothing."""
    server = socket.create_server(("127.0.0.1", port := free_port()), backlog=4096)
    _held.append(server)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def _claimed(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0unitagent-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _held.append(claim)
    return True
