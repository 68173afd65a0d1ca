"""Names of servers and their addresses, asked of the name server beside the event loop."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from unitagent.system.addresses import is_ip_literal
from unitagent.system.threads import SingleFlight

_LOOKUPS = SingleFlight()  # of the whole process: what one connection has found out serves the others too


async def resolve_host(host: str) -> list[str]:
    """Give the addresses of a name, in the order of the system's preference.

    Raises:
        OSError: nobody knows the name.

    """
    if is_ip_literal(host):
        return [str(ip_address(host))]
    return await _LOOKUPS.run(host, lambda: resolve_blocking(host))


def resolve_blocking(host: str) -> list[str]:
    """Look a name up; blocks. Each address once."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def find_pending_lookup(place: str) -> str:
    """Which name of ``host:port,host:port`` the name server has yet to answer for; "" for none."""
    hosts = (host.rpartition(":")[0].strip("[]") for host in place.split(","))
    return next(filter(_LOOKUPS.is_under_way, hosts), "")
