"""IP addresses and TCP sockets: bind, connect, keep alive.

The invariant: every check whether an address is free binds it exactly as the agent does.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeVar

from unitagent.errors import ConfigurationError
from unitagent.system.host_port import join_host_port

_ALL, _ALL_OF_IPV4 = "::", "0.0.0.0"
_WITHOUT_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_IPV6 = 6


def bind_tcp(host: str, port: int, *scope: int) -> socket.socket:
    """Bind a TCP socket to an IP address; ``::`` takes IPv4 as well, or alone where the kernel has no IPv6.

    Args:
        host: an address of this machine, bare.
        port: 0 for any.
        scope: flow label and zone of an IPv6 address, as ``getaddrinfo`` tells them.

    Raises:
        OSError: the address cannot be had.
        OverflowError: it is no port.

    """
    try:
        return _bind_family(host, port, *scope)
    except OSError as error:
        if host != _ALL or error.errno not in _WITHOUT_IPV6:
            raise
        return _bind_family(_ALL_OF_IPV4, port)


def _bind_family(host: str, port: int, *scope: int) -> socket.socket:
    family = find_family(host)
    # Its protocol is named, for asyncio sends at once (TCP_NODELAY) on connections whose listener names it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != _ALL)
        listener.bind((host, port, *scope))
    except BaseException:
        listener.close()
        raise
    return listener


def refuse_unreachable_listener(host: str, port: int, ip: str) -> None:
    """Refuse a probe address where the other ranks, which connect to ``ip``, reach nothing. Resolves names.

    Raises:
        ConfigurationError: it is another address.

    """
    there = host.strip("[]")
    with suppress(OSError, UnicodeError):  # the listener reports its own error
        there = str(
            socket.getaddrinfo(there, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0]
        )
        if not covers_ip(there, ip):
            own = join_host_port(ip, port)
            raise ConfigurationError(
                f"UNIT_HTTP_ADDRESS={join_host_port(host, port)}: the other ranks ask this one at {own}, "
                f"where nothing would listen; set it to [::]:{port} (every address), or {own}"
            )


def explain_other_master_address(master_address: str | None, ip: str, rank: int | None) -> str:
    """Explain that MASTER_ADDRESS names another address of this machine than the one that rank 0 uses."""
    with suppress(ValueError, OSError):  # a name, or nobody's address here: a Service's may lead to this one
        if rank == 0 and master_address and ip_address(master_address) != ip_address(ip):
            bind_tcp(master_address, 0).close()
            return (
                f"MASTER_ADDRESS={master_address} is another address of this machine than {ip}, which rank 0 "
                f"uses and listens at; set RANK_IP={master_address} if the other ranks connect to that one"
            )
    return ""


def is_ip_literal(host: str) -> bool:
    """Whether this is an IP address and not a name; one with a zone counts as a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def find_family(ip: str) -> socket.AddressFamily:
    """Return the address family of a bare IP address."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def covers_ip(host: str, ip: str) -> bool:
    """Whether a socket that listens at ``host`` takes what is sent to ``ip``; of a name it is not known."""
    try:
        there, mine = ip_address(host.strip("[]")), ip_address(ip)
    except ValueError:
        return False
    return there == mine or (there.is_unspecified and there.version in (_IPV6, mine.version))


def is_loopback(ip: str) -> bool:
    """Whether only this machine, or this container, reaches an address."""
    return ip_address(ip).is_loopback


_P = TypeVar("_P", bound=asyncio.Protocol)


async def connect_tcp(
    protocol: _P, host: str, port: int, *, within: float, source: str = ""
) -> tuple[asyncio.Transport, _P]:
    """Connect, and hand the connection to ``protocol``.

    Raises:
        OSError: no connection (``TimeoutError`` after ``within`` seconds, ``ConnectionRefusedError``, ...).

    """
    local = (source, 0) if source else None
    try:
        async with asyncio.timeout(within):
            loop = asyncio.get_running_loop()
            return await loop.create_connection(lambda: protocol, host, port, local_addr=local)
    except (UnicodeError, OverflowError) as error:
        raise OSError(f"{join_host_port(host, port)} is not an address") from error
    except RuntimeError as error:  # no thread is left to resolve the name in
        raise OSError(str(error)) from error


async def explain_unreachable(host: str, port: int, *, within: float, source: str = "") -> str:
    """Return why no connection can be made; empty if one can."""
    try:
        transport, _ = await connect_tcp(asyncio.Protocol(), host, port, within=within, source=source)
    except TimeoutError:
        return f"no connection to {join_host_port(host, port)} within {within:g} s"
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else error
        return f"no connection to {join_host_port(host, port)}: {cause}"
    transport.abort()
    return ""


def enable_keepalive(connected: socket.socket, *, idle: int, interval: int) -> None:
    """Have the kernel find a machine that vanished, ``idle`` + 3 * ``interval`` seconds later (tcp(7))."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
