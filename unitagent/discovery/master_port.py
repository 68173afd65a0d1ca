"""Find a master port that is free on this machine now, with 7 free ports above it for whatever else an
engine opens.

It is below the kernel's ephemeral range (``net.ipv4.ip_local_port_range`` begins at 32768 by default), so
that no outgoing connection takes it between our check and the workload's bind.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Collection

from unitagent.system.addresses import find_family

PORTS_ABOVE = 7
_FIRST, _LAST = 20000, 29999
_TRIES = 200


def find_master_port(address: str, used: Collection[int] = (), wanted: int = 0) -> int:
    """Find a port that is free on ``address`` and on all addresses, outside the blocks at ``used``.

    Args:
        address: of rank 0.
        used: ports of other blocks.
        wanted: the port to return if it is still free; 0 for any.

    Raises:
        OSError: no block of free ports was found; the machine is out of ports.

    """
    chance = random.SystemRandom()
    for number in range(_TRIES):
        port = wanted if wanted and number == 0 else chance.randint(_FIRST, _LAST - PORTS_ABOVE)
        if all(abs(port - other) > PORTS_ABOVE for other in used) and _block_is_free(address, port):
            return port
    raise OSError(f"no {PORTS_ABOVE + 1} free ports in a row between {_FIRST} and {_LAST} on {address}")


class MasterPorts:
    """The ports of the generations that this instance leads."""

    def __init__(self) -> None:
        self._last = self._next = 0

    def choose(self, address: str, kept: int | None) -> tuple[int, int]:
        """Choose a port and the next one, 0 if there is none: others know it from here, and need not wait for
        it in a restart. ``kept``: the port of the keepers, which stay.

        Some twenty binds without a wait, a third of a millisecond; a thread would take as long to begin.

        Raises:
            OSError: as :func:`find_master_port`.

        """
        used = (self._last,) if kept is None else (self._last, kept)
        port = find_master_port(address, used, self._next)
        try:
            following = find_master_port(address, (*used, port))
        except OSError:
            following = 0
        self._last, self._next = port, following
        return port, following


def _block_is_free(address: str, port: int) -> bool:
    family = find_family(address)
    everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    with contextlib.ExitStack() as held:
        try:
            for number in range(port, port + PORTS_ABOVE + 1):
                held.enter_context(_bind_port(family, everywhere, number))
        except OSError:
            return False
    return True


def _bind_port(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    """Bind without SO_REUSEADDR: a port in TIME_WAIT is one that a careless engine cannot bind either."""
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.bind((address, port))
    except OSError:
        probe.close()
        raise
    return probe
