"""The cards of this machine as the kernel tells them over netlink, by way of ``pyroute2``.

``pyroute2`` is costly to import: 110 ms and 14 MB, measured with 0.9.7 and asyncio loaded before. So only
what reads cards is imported (55 ms, 8 MB), and that only when cards have to be read.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unitagent.discovery.cards import Card, CardAddress, Cards

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/if.h, linux/if_addr.h, linux/rtnetlink.h
_IFF_UP_AND_RUNNING = 0x1 | 0x40
_IFA_F_SECONDARY = 0x01  # for IPv6 the same bit marks a temporary address
_IFA_F_UNREADY = 0x08 | 0x20 | 0x40  # DADFAILED, DEPRECATED, TENTATIVE
_MAIN_TABLE = 254
_UNICAST = 1
_AF_INET, _AF_INET6 = 2, 10


def read_cards() -> Cards:
    """Ask the kernel. Blocks for milliseconds, and longer at the first call, which imports.

    Raises:
        OSError: the kernel refused, or changed its answer while it was being read.

    """
    with _without_the_rest("pyroute2"):
        from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415 - see above
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415
    try:
        with IPRoute() as kernel:
            links, addresses = list(kernel.get_links()), list(kernel.get_addr())
            routes = [*kernel.get_routes(family=_AF_INET), *kernel.get_routes(family=_AF_INET6)]
    except NetlinkError as error:
        raise OSError(str(error)) from error
    held: dict[int, list[CardAddress]] = defaultdict(list)
    for message in addresses:
        held[message["index"]].extend(_addresses(message))
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    cards = tuple(
        Card(names[link["index"]], _running(link), tuple(held[link["index"]]), _other_names(link))
        for link in links
    )
    return Cards(cards, names.get(_default_card(routes)))


def _running(link: Any) -> bool:
    return bool(link["flags"] & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING)


def _other_names(link: Any) -> tuple[str, ...]:
    """Give the alternative names (``ip link property``), which a card has beside its own since Linux 5.5."""
    listed = link.get_attr("IFLA_PROP_LIST")
    return tuple(listed.get_attrs("IFLA_ALT_IFNAME")) if listed is not None else ()


def _addresses(message: Any) -> Iterator[CardAddress]:
    """Give the message's address; of a point-to-point card IFA_ADDRESS is the other end's."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    if text:
        yield CardAddress(
            ip_address(text), primary=not flags & _IFA_F_SECONDARY, ready=not flags & _IFA_F_UNREADY
        )


def _default_card(routes: list[Any]) -> int | None:
    """Give the index of the card of the default route, IPv4 before IPv6, the least metric first."""
    found = [
        (route["family"], route.get_attr("RTA_PRIORITY") or 0, card)
        for route in routes
        if not route["dst_len"] and route["type"] == _UNICAST
        if (route.get_attr("RTA_TABLE") or route["table"]) == _MAIN_TABLE and (card := _card(route))
    ]
    return min(found)[2] if found else None


def _card(route: Any) -> int | None:
    """Give the card that a route leaves by, the first one of a route over several."""
    hops = route.get_attr("RTA_MULTIPATH") or ()
    index: int | None = route.get_attr("RTA_OIF") or next((hop["oif"] for hop in hops), None)
    return index


@contextmanager
def _without_the_rest(package: str) -> Iterator[None]:
    """Import parts of a package without running its ``__init__``, which would import everything in it.

    The empty package stands in only for that long, so a later ``import`` by anybody else is a full one.
    """
    spec = find_spec(package) if package not in sys.modules else None
    if spec is None:
        yield
        return
    stand_in = ModuleType(package)
    stand_in.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[package] = stand_in
    try:
        yield
    finally:
        del sys.modules[package]
