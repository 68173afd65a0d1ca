"""Names of servers and their addresses, asked of the name server beside the event loop."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from unitagent.listening import is_literal
from unitagent.store.singleflight import SingleFlight

_LOOKUPS = SingleFlight()  # of the whole process: what one connection has found out serves the others too


async def look_up(host: str) -> list[str]:
    """Give the addresses of a name, in the order of the system's preference.

    Raises:
        OSError: nobody knows the name.

    """
    if is_literal(host):
        return [str(ip_address(host))]
    return await _LOOKUPS.run(host, lambda: resolve(host))


def resolve(host: str) -> list[str]:
    """Look a name up; blocks. Each address once."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def awaited(place: str) -> str:
    """Which name of ``host:port,host:port`` the name server has yet to answer for; "" for none."""
    hosts = (host.rpartition(":")[0].strip("[]") for host in place.split(","))
    return next(filter(_LOOKUPS.is_under_way, hosts), "")
