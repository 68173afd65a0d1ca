"""This instance's interface and address, waited for when the platform brings the interface up late.

The invariant: the event loop is never blocked, and an explicit choice is either used or refused, never
replaced.

The network namespace serves as a proof of place. Addresses repeat: two machines may both have a bridge with
172.17.0.2. Within one namespace of one running kernel they are unique, and only one socket can listen at an
address. So an agent that listens exactly where another one did knows that the other is gone.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.discovery.interfaces import InstanceAddress, NetworkInterfaces, choose_address
from unitagent.errors import ConfigurationError
from unitagent.system.addresses import bind_tcp, covers_ip, find_family

if TYPE_CHECKING:
    from collections.abc import Callable


_PAUSE = 0.2  # seconds between two looks
_PREFERRED_WAIT = 5.0  # seconds for the preferred interface to come up, before another is chosen
_BETWEEN_MESSAGES = 5.0  # seconds


async def find_instance_address(
    ifname: str | None, rank_ip: str | None, wait: float, on_wait: Callable[[str], None]
) -> InstanceAddress:
    """Find the interface and address.

    Args:
        ifname: the requested interface; without one, the first usable one of net0, eth1, the default route's,
            and the only usable one.
        rank_ip: the requested address; without one, the interface's first usable one, IPv4 before IPv6.
        wait: seconds that an interface or address may take to come up; ``agent.startup`` allows 60.
        on_wait: called with the reason for waiting (when it changes, and every few seconds), and with a
            notice if a second choice is made.

    Raises:
        ConfigurationError: there is none after ``wait``; names the interfaces there are.

    """
    loop = asyncio.get_running_loop()
    deadline, last_reason, next_message = loop.time() + wait, "", 0.0
    settles = loop.time() + min(_PREFERRED_WAIT, wait)
    while True:
        settled = loop.time() >= settles
        choice = await asyncio.to_thread(_choose_once, ifname, rank_ip, settled=settled)
        if isinstance(choice, InstanceAddress):
            if choice.notice:
                on_wait(choice.notice)
            return choice
        now = loop.time()
        if now >= deadline:
            raise ConfigurationError(await asyncio.to_thread(_describe_refusal, choice))
        if choice != last_reason or now >= next_message:
            other = None if settled else await asyncio.to_thread(_choose_once, ifname, rank_ip, settled=True)
            on_wait(_describe_wait(choice, other, deadline - now, settles - now))
            last_reason, next_message = choice, now + _BETWEEN_MESSAGES
        await asyncio.sleep(min(_PAUSE, deadline - now))


def _describe_wait(
    for_what: str, other: InstanceAddress | str | None, left: float, until_other: float
) -> str:
    """Describe the wait: it is short if ``other`` will do after it."""
    if isinstance(other, InstanceAddress):
        then = f"then {other.ifname} with {other.ip} is used"
        return f"{for_what}; waiting for it, {max(0.0, until_other):.0f} s left, {then}"
    return f"{for_what}; waiting for it, {left:.0f} s left"


def _choose_once(ifname: str | None, rank_ip: str | None, *, settled: bool) -> InstanceAddress | str:
    if rank_ip and ip_address(rank_ip).is_loopback:
        ifname = ifname or "lo"  # all of 127.0.0.0/8 is there, though only 127.0.0.1 is listed
    if ifname and rank_ip:
        return _check_stated_address(ifname, rank_ip)
    interfaces = _read_interfaces()
    return (
        interfaces
        if isinstance(interfaces, str)
        else choose_address(interfaces, ifname, rank_ip, settled=settled)
    )


def _check_stated_address(ifname: str, rank_ip: str) -> InstanceAddress | str:
    """Check the interface and address without the cost of netlink."""
    family = find_family(rank_ip)
    name = _find_own_name(ifname)
    if name is None:
        return f"COMM_IFNAME={ifname!r} is not an interface of this machine"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind((rank_ip, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return f"RANK_IP={rank_ip!r} is not assigned to any interface of this machine, or not ready yet"
        return f"RANK_IP={rank_ip!r} cannot be used: {error.strerror}"
    return InstanceAddress(name, rank_ip, family)


def _find_own_name(ifname: str) -> str | None:
    """Return the name by which libraries know an interface, given any of its names; None if there is none."""
    try:
        return socket.if_indextoname(socket.if_nametoindex(ifname))
    except OSError:  # also raised for an alternative name that is longer than the C library allows
        interfaces = _read_interfaces()
        interface = None if isinstance(interfaces, str) else interfaces.find_by_name(ifname)
        return interface.name if interface is not None else None


def _read_interfaces() -> NetworkInterfaces | str:
    from unitagent.discovery.netlink import read_interfaces  # noqa: PLC0415 - only here is netlink needed

    try:
        return read_interfaces()
    except (OSError, ImportError) as error:
        return f"the interfaces cannot be read from the kernel ({error})"


def _describe_refusal(reason: str) -> str:
    interfaces = _read_interfaces()
    there = interfaces if isinstance(interfaces, str) else f"the interfaces are: {interfaces}"
    return (
        f"{reason}; {there}; set COMM_IFNAME to an interface with an address, or COMM_IFNAME and RANK_IP both"
    )


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/net")


def find_own_netns(host: str, port: int, ip: str) -> str:
    """Return an id of the network namespace in which a listener at ``host``:``port`` is the only one possible
    at ``ip``:``port``; with port 0, that of this process.

    Returns an empty string if another could listen there (``host`` is another address, the port is taken), or
    if this cannot be known (a sandbox that hides its kernel).
    """
    if port and not (covers_ip(host, ip) and _is_free(host, port)):
        return ""
    try:
        boot, namespace = _BOOT.read_text(encoding="ascii").strip(), _NAMESPACE.stat()
    except (OSError, UnicodeDecodeError):
        return ""
    words = f"{boot} {namespace.st_dev} {namespace.st_ino}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _is_free(host: str, port: int) -> bool:
    try:
        with bind_tcp(host.strip("[]"), port) as trial:
            trial.listen(1)
    except OSError:
        return False
    return True
