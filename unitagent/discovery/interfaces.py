"""Choose the network interface and address by which other instances reach this one: ``RANK_IP``.

In this order:

1. ``COMM_IFNAME`` and ``RANK_IP`` both set: they are used as they are if the address can be bound
   (``network._check_stated_address``). A loopback ``RANK_IP`` alone counts as one with the interface lo.
2. ``RANK_IP`` set: that address, on whichever interface has it (:func:`choose_address`, as all that follows).
3. ``COMM_IFNAME`` set: its first usable address, IPv4 before IPv6.
4. Neither: the same of net0, of eth1, of the default route's interface, of the only one there is.

:mod:`network` asks again while an interface comes up, and :mod:`netlink` reads what the kernel has.

The invariant: these functions are pure. Addresses that mean nothing to other machines (loopback, link-local)
are chosen only if a person named the interface, and an address that the kernel is still checking is never
chosen. If the first candidate is not used, a notice says so.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

_PREFERRED = ("net0", "eth1")  # PAI-EAS: net0 is the RDMA interface, eth1 the one between instances
_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class InstanceAddress:
    """This instance's address on the interface for inter-node traffic.

    Attributes:
        ifname: name of the interface.
        ip: the address as text.
        family: ``AF_INET`` or ``AF_INET6``.
        notice: what a person should know about the choice.

    """

    ifname: str
    ip: str
    family: socket.AddressFamily
    notice: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of an interface.

    Attributes:
        primary: false for a secondary or temporary one.
        ready: false while the kernel checks it for duplicates, found one, or has deprecated it.

    """

    ip: IPv4Address | IPv6Address
    primary: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """One network interface; ``running`` means switched on and with a link.

    Attributes:
        others: alternative names in the kernel, which libraries ignore.

    """

    name: str
    running: bool
    addresses: tuple[InterfaceAddress, ...] = ()
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        held = ", ".join(f"{held.ip}{'' if held.ready else ' (not ready)'}" for held in self.addresses)
        also = f" (also {', '.join(self.others)})" if self.others else ""
        return f"{self.name}{also} {held or 'without address'}{'' if self.running else ' (no link)'}"


@dataclass(frozen=True, slots=True)
class NetworkInterfaces:
    """All interfaces, and the one that the default route leaves by, if there is such a route."""

    interfaces: tuple[NetworkInterface, ...] = ()
    default: str | None = None

    def __str__(self) -> str:
        return "; ".join(map(str, self.interfaces)) or "none"

    def find_by_name(self, name: str) -> NetworkInterface | None:
        """Find an interface by its name, or by one of its alternative names."""
        return next(
            (interface for interface in self.interfaces if name in (interface.name, *interface.others)), None
        )


def choose_address(
    interfaces: NetworkInterfaces, ifname: str | None, rank_ip: str | None, *, settled: bool = True
) -> InstanceAddress | str:
    """Choose interface and address, or say in a few words why there is none (yet).

    Args:
        interfaces: what the kernel reports.
        ifname: the interface that was asked for.
        rank_ip: the address that was asked for, on whichever interface.
        settled: interfaces have had a moment to come up, so that another choice than the first will do.

    """
    if rank_ip:
        return _find_holder(interfaces, rank_ip)
    if ifname:
        first = _choose_on_interface(interfaces, ifname)
        return (
            first
            if isinstance(first, InstanceAddress) or not settled
            else _choose_link_local(interfaces, ifname) or first
        )
    return _choose_usual(interfaces, settled=settled)


def _choose_usual(interfaces: NetworkInterfaces, *, settled: bool) -> InstanceAddress | str:
    """Choose the first of the usual interfaces; once they are settled, the first that is usable."""
    passed: list[str] = []
    for name in _list_candidates(interfaces):
        choice = _choose_on_interface(interfaces, name)
        if isinstance(choice, InstanceAddress):
            then = f"so {name} with {choice.ip} is used; set COMM_IFNAME to the interface that is meant"
            return replace(choice, notice="; ".join([*passed, then])) if passed else choice
        passed.append(choice)
        if not settled:
            break
    return (
        passed[0]
        if passed
        else "no interface net0 or eth1, no default route, and not exactly one usable interface"
    )


def _choose_on_interface(interfaces: NetworkInterfaces, name: str) -> InstanceAddress | str:
    """Choose an address of an interface, IPv4 before IPv6."""
    interface = interfaces.find_by_name(name)
    if interface is None:
        return f"COMM_IFNAME={name!r} is not an interface of this machine"
    if not interface.running:
        return f"the interface {interface.name} has no link"
    usable = _list_usable(interface)
    if not usable:
        return f"the interface {interface.name} has no usable address"
    return _make_address(
        interface, min(usable, key=lambda address: (address.ip.version, not address.primary))
    )


def _choose_link_local(interfaces: NetworkInterfaces, name: str) -> InstanceAddress | None:
    """Choose a link-local IPv4 address, as a direct cable has it. Those of IPv6 mean nothing without the
    name of an interface, which differs between machines.
    """
    interface = interfaces.find_by_name(name)
    if interface is None or not interface.running:
        return None
    mine = (one for one in interface.addresses if one.ready and isinstance(one.ip, IPv4Address))
    address = next((one for one in mine if one.ip.is_link_local), None)
    if address is None:
        return None
    only = f"the interface {name} has link-local addresses only"
    notice = f"{only}: {address.ip} is used, which is reachable on this link only"
    return replace(_make_address(interface, address), notice=notice)


def _find_holder(interfaces: NetworkInterfaces, rank_ip: str) -> InstanceAddress | str:
    for interface in interfaces.interfaces:
        for address in interface.addresses:
            if str(address.ip) == rank_ip:
                return (
                    _make_address(interface, address)
                    if address.ready
                    else f"RANK_IP={rank_ip!r} is not ready yet on {interface.name}"
                )
    return f"RANK_IP={rank_ip!r} is not assigned to any interface of this machine"


def _list_candidates(interfaces: NetworkInterfaces) -> list[str]:
    """List EAS's interfaces, the default route's, and the only usable one: an isolated network needs no
    route.
    """
    known = [name for name in (*_PREFERRED, interfaces.default) if name and interfaces.find_by_name(name)]
    usable = [
        interface.name
        for interface in interfaces.interfaces
        if interface.name != _LOOPBACK and interface.running and _list_usable(interface)
    ]
    return list(dict.fromkeys([*known, *(usable if len(usable) == 1 else ())]))


def _list_usable(interface: NetworkInterface) -> list[InterfaceAddress]:
    """List the addresses to advertise; loopback addresses only on the loopback interface itself."""
    return [
        address
        for address in interface.addresses
        if address.ready
        and not address.ip.is_link_local
        and (interface.name == _LOOPBACK or not address.ip.is_loopback)
    ]


def _make_address(interface: NetworkInterface, address: InterfaceAddress) -> InstanceAddress:
    family = socket.AF_INET if address.ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    return InstanceAddress(interface.name, str(address.ip), family)
