"""This instance's card and address, waited for when the platform brings the card up late.

The invariant: the event loop is never blocked, and what a person gave is either used as given or refused;
nothing else is used in its place.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from unitagent.discovery.cards import Address, Cards, choose
from unitagent.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Address", "find_address"]

_PAUSE = 0.2
_MOMENT = 5.0  # seconds for the card that is chosen first, before another one will do
_BETWEEN_MESSAGES = 5.0


async def find_address(
    ifname: str | None, rank_ip: str | None, wait: float, on_wait: Callable[[str], None]
) -> Address:
    """Find card and address.

    Args:
        ifname: the card that was asked for; else net0, eth1, the default route's or the only one there is,
            whichever is of use after a moment.
        rank_ip: the address that was asked for; else the card's first usable one, IPv4 before IPv6.
        wait: seconds that a card or address may take to come up.
        on_wait: told why it takes longer, when that changes and every few seconds; and of a second choice.

    Raises:
        ConfigurationError: there is none after ``wait``; says which cards there are.

    """
    loop = asyncio.get_running_loop()
    deadline, said, next_message = loop.time() + wait, "", 0.0
    settles = loop.time() + min(_MOMENT, wait)
    while True:
        settled = loop.time() >= settles
        found = await asyncio.to_thread(_look, ifname, rank_ip, settled=settled)
        if isinstance(found, Address):
            if found.notice:
                on_wait(found.notice)
            return found
        now = loop.time()
        if now >= deadline:
            raise ConfigurationError(await asyncio.to_thread(_refusal, found))
        if found != said or now >= next_message:
            other = None if settled else await asyncio.to_thread(_look, ifname, rank_ip, settled=True)
            on_wait(_waiting(found, other, deadline - now, settles - now))
            said, next_message = found, now + _BETWEEN_MESSAGES
        await asyncio.sleep(min(_PAUSE, deadline - now))


def _waiting(for_what: str, other: Address | str | None, left: float, until_other: float) -> str:
    """Say how long is waited: only for a moment where ``other`` will do after it."""
    if isinstance(other, Address):
        then = f"then {other.ifname} with {other.ip} is used"
        return f"{for_what}; waiting for it, {max(0.0, until_other):.0f} s left, {then}"
    return f"{for_what}; waiting for it, {left:.0f} s left"


def _look(ifname: str | None, rank_ip: str | None, *, settled: bool) -> Address | str:
    if rank_ip and ip_address(rank_ip).is_loopback:
        ifname = ifname or "lo"  # all of 127.0.0.0/8 is there, though only 127.0.0.1 is listed
    if ifname and rank_ip:
        return _as_given(ifname, rank_ip)
    seen = _read()
    return seen if isinstance(seen, str) else choose(seen, ifname, rank_ip, settled=settled)


def _as_given(ifname: str, rank_ip: str) -> Address | str:
    """Check that there is such a card and such an address, without the cost of netlink."""
    family = socket.AF_INET6 if ":" in rank_ip else socket.AF_INET
    name = _own_name(ifname)
    if name is None:
        return f"COMM_IFNAME={ifname!r} is no interface of this machine"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind((rank_ip, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return f"RANK_IP={rank_ip!r} is on no interface of this machine, or not ready"
        return f"RANK_IP={rank_ip!r} cannot be used: {error.strerror}"
    return Address(name, rank_ip, family)


def _own_name(ifname: str) -> str | None:
    """Give the name by which libraries know a card that may be called by another one; None for no card."""
    try:
        return socket.if_indextoname(socket.if_nametoindex(ifname))
    except OSError:  # so says the C library of a long name, too
        seen = _read()
        card = None if isinstance(seen, str) else seen.named(ifname)
        return card.name if card is not None else None


def _read() -> Cards | str:
    from unitagent.discovery.netlink import read_cards  # noqa: PLC0415 - only here is netlink needed

    try:
        return read_cards()
    except (OSError, ImportError) as error:
        return f"the kernel does not tell the interfaces ({error})"


def _refusal(reason: str) -> str:
    seen = _read()
    there = seen if isinstance(seen, str) else f"the interfaces are: {seen}"
    return (
        f"{reason}; {there}; set COMM_IFNAME to an interface with an address, or COMM_IFNAME and RANK_IP both"
    )
