"""Read this machine's network interfaces from the kernel over netlink, with the messages of ``pyroute2``.

Its sockets are not used: they bring an event loop, a mock of the kernel and every kind of message, and would
make each start several times slower (see "Dependencies" in ``CONTRIBUTING.md``).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections import defaultdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from unitagent.discovery.interfaces import InterfaceAddress, NetworkInterface, NetworkInterfaces
from unitagent.system.lazy_imports import defer_package_init

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# linux/if.h, linux/if_addr.h, linux/rtnetlink.h
_IFF_UP_AND_RUNNING = 0x1 | 0x40
_IFA_F_SECONDARY = 0x01  # for IPv6 the same bit marks a temporary address
_IFA_F_UNREADY = 0x08 | 0x20 | 0x40  # DADFAILED, DEPRECATED, TENTATIVE
_MAIN_TABLE = 254
_UNICAST = 1
_LINKS, _ADDRESSES, _ROUTES = 18, 22, 26  # RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE

# linux/netlink.h
_HEADER = struct.Struct("=IHH8x")  # length, type, flags
_ERROR_CODE_SIZE = 4  # bytes
_ERROR, _DONE = 2, 3
_ASK_FOR_ALL = 0x301  # NLM_F_REQUEST, NLM_F_DUMP
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_BUFFER_SIZE = 1 << 18  # bytes; the kernel sends 32 KiB at once, more only for very many virtual functions
_ANSWER_TIMEOUT = 5.0  # seconds


def read_interfaces() -> NetworkInterfaces:
    """Ask the kernel. Blocks for milliseconds, and longer at the first call, which imports.

    Raises:
        OSError: the kernel refused, or changed its answer while it was being read.

    """
    defer_package_init("pyroute2")
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: PLC0415
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: PLC0415
    from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: PLC0415

    links, addresses = list(_dump_messages(ifinfmsg, _LINKS)), list(_dump_messages(ifaddrmsg, _ADDRESSES))
    routes = [
        *_dump_messages(rtmsg, _ROUTES, socket.AF_INET),
        *_dump_messages(rtmsg, _ROUTES, socket.AF_INET6),
    ]
    held: dict[int, list[InterfaceAddress]] = defaultdict(list)
    for message in addresses:
        held[message["index"]].extend(_read_addresses(message))
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    interfaces = tuple(
        NetworkInterface(
            names[link["index"]], _is_running(link), tuple(held[link["index"]]), _list_other_names(link)
        )
        for link in links
    )
    return NetworkInterfaces(interfaces, names.get(_find_default_interface(routes)))


def _dump_messages(make: Callable[..., Any], kind: int, family: int = socket.AF_UNSPEC) -> Iterator[Any]:
    """Dump all objects of one netlink type."""
    question = make()
    question["header"]["type"], question["header"]["flags"] = kind, _ASK_FOR_ALL
    question["family"] = family
    question.encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_ANSWER_TIMEOUT)
        kernel.send(question.data)
        while True:
            data, _, truncated, _ = kernel.recvmsg(_BUFFER_SIZE)
            if truncated & socket.MSG_TRUNC:
                raise OSError("the kernel's answer is too long")
            for start in _list_message_starts(data):
                if start is None:
                    return
                message = make(data, offset=start)
                message.decode()
                yield message


def _list_message_starts(data: bytes) -> Iterator[int | None]:
    """Where each message begins; None for the end of the answer."""
    start = 0
    while start < len(data):
        length, kind, flags = _HEADER.unpack_from(data, start)
        if flags & _INTERRUPTED or length < _HEADER.size:
            raise OSError("the kernel changed its answer while it was being read")
        if kind in (_ERROR, _DONE):
            if code := int.from_bytes(
                data[start + _HEADER.size :][:_ERROR_CODE_SIZE], sys.byteorder, signed=True
            ):
                raise OSError(-code, os.strerror(-code))
            yield None
            return
        yield start
        start += (length + 3) & ~3


def _is_running(link: Any) -> bool:
    return bool(link["flags"] & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING)


def _list_other_names(link: Any) -> tuple[str, ...]:
    """Return the alternative names (``ip link property``), which Linux has since 5.5."""
    listed = link.get_attr("IFLA_PROP_LIST")
    return tuple(listed.get_attrs("IFLA_ALT_IFNAME")) if listed is not None else ()


def _read_addresses(message: Any) -> Iterator[InterfaceAddress]:
    """Return the message's address; of a point-to-point interface IFA_ADDRESS is the other end's."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    if text:
        yield InterfaceAddress(
            ip_address(text), primary=not flags & _IFA_F_SECONDARY, ready=not flags & _IFA_F_UNREADY
        )


def _find_default_interface(routes: list[Any]) -> int | None:
    """Return the index of the interface of the default route, IPv4 before IPv6, the lowest metric first."""
    defaults = [
        (route["family"], route.get_attr("RTA_PRIORITY") or 0, interface)
        for route in routes
        if not route["dst_len"] and route["type"] == _UNICAST
        if (route.get_attr("RTA_TABLE") or route["table"]) == _MAIN_TABLE
        and (interface := _find_route_interface(route))
    ]
    return min(defaults)[2] if defaults else None


def _find_route_interface(route: Any) -> int | None:
    """Return the interface that a route leaves by, the first one of a route over several."""
    hops = route.get_attr("RTA_MULTIPATH") or ()
    index: int | None = route.get_attr("RTA_OIF") or next((hop["oif"] for hop in hops), None)
    return index
