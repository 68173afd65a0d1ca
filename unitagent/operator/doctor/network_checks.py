"""Address, leader's name, ports and connections to peers, as the kernel and the resolver report them."""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address

from unitagent.errors import ConfigurationError
from unitagent.operator.doctor.findings import Finding, fail, ok, warn
from unitagent.system.addresses import bind_tcp, find_family, refuse_unreachable_listener
from unitagent.system.host_port import join_host_port

_SLOW = 1.0  # seconds; a lookup that takes longer delays every reconnect


def judge_address(ifname: str, ip: str, size: int, notice: str = "") -> Finding:
    """Judge the address that the other ranks get; ``notice``: what is unusual about the choice."""
    detail = f"{ifname} has {ip}"
    if size > 1 and ip_address(ip).is_loopback:
        remedy = "set COMM_IFNAME to an interface that the other instances can reach"
        return warn("address", f"{detail}, which only instances on this machine can reach", remedy)
    if notice:
        return warn(
            "address", notice, "set COMM_IFNAME to the intended interface, or assign an address to it"
        )
    return ok("address", detail)


@dataclass(frozen=True, slots=True)
class Lookup:
    """The resolver's answer for a name; ``trouble`` is empty if it has addresses."""

    name: str
    addresses: tuple[str, ...]
    seconds: float
    trouble: str = ""


def resolve_name(name: str) -> Lookup:
    """Ask the resolver; may block for a long time."""
    before = time.perf_counter()
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Lookup(name, (), time.perf_counter() - before, reason)
    addresses = tuple(dict.fromkeys(str(where[0]) for *_, where in entries))
    return Lookup(name, addresses, time.perf_counter() - before)


def judge_leader(lookup: Lookup, rank: int | None, ip: str, *, needed: bool) -> Finding:
    """Judge MASTER_ADDRESS; ``needed``: the embedded store is found through it."""
    variable = f"MASTER_ADDRESS={lookup.name}"
    if lookup.trouble:
        remedy = (
            "check the name and /etc/resolv.conf; a headless Service needs publishNotReadyAddresses: true, "
            "or names only exist once the pods are ready"
        )
        verdict = fail if needed else warn
        return verdict("leader", f"{variable} cannot be resolved: {lookup.trouble}", remedy)
    detail = f"{variable} is {', '.join(lookup.addresses)}"
    if rank == 0 and ip and ip not in lookup.addresses and not ip_address(ip).is_loopback:
        remedy = (
            "make it resolve to rank 0's own address (a headless Service), or set COMM_IFNAME to the "
            "interface with that address"
        )
        return warn("leader", f"{detail}, but this is rank 0, whose address is {ip}", remedy)
    if rank and ip and not ip_address(ip).is_loopback and _all_loopback(lookup.addresses):
        return warn(
            "leader", f"{detail}, which is this machine and not rank 0", "make it resolve to rank 0's address"
        )
    if lookup.seconds > _SLOW:
        return warn(
            "leader", f"{detail}, after {lookup.seconds:.1f} s", "use a nearer DNS server, or an IP address"
        )
    return ok("leader", detail)


def _all_loopback(addresses: tuple[str, ...]) -> bool:
    return all(ip_address(address).is_loopback for address in addresses)


@dataclass(frozen=True, slots=True)
class TriedPort:
    """A port that an agent here will listen on; ``trouble`` is empty if it is free."""

    what: str
    host: str
    number: int
    trouble: str = ""
    taken: bool = False


def try_port(what: str, host: str, number: int) -> TriedPort:
    """Bind the port and release it at once."""
    try:
        with bind_tcp(host, number) as trial:
            trial.listen()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        return TriedPort(what, host, number, error.strerror or str(error), taken)
    except OverflowError:  # the store's port is one above another
        return TriedPort(what, host, number, "a port must be at most 65535")
    return TriedPort(what, host, number)


def judge_probes(host: str, port: int, ip: str, size: int) -> list[Finding]:
    """Judge whether the other ranks reach the probes at ``ip``; no finding if they do. May block."""
    try:
        if port and ip and size > 1:
            refuse_unreachable_listener(host, port, ip)
    except ConfigurationError as error:
        return [fail("probes", str(error), f"leave UNIT_HTTP_ADDRESS unset, or set it to [::]:{port}")]
    return []


def judge_port(port: TriedPort, *, agent: bool) -> Finding:
    """Judge a port; ``agent``: one answers at the probe address, so its ports are expected to be in use."""
    listener = f"{port.what} at {join_host_port(port.host, port.number)}"
    if not port.trouble:
        return ok("port", f"{listener} is free")
    if port.taken and agent:
        return ok("port", f"{listener} is in use, and an agent already runs here")
    remedy = "choose another address or port with UNIT_HTTP_ADDRESS (the store's port is one above it)"
    if port.taken:
        remedy = f"stop the process that holds it (find it with ss -ltnp), or {remedy}"
    return fail("port", f"{listener} is not available: {port.trouble}", remedy)


@dataclass(frozen=True, slots=True)
class PeerConnection:
    """The result of a connection attempt to a peer.

    Attributes:
        source: our address on the route to it; empty without a route.
        trouble: errno; 0 if the connection succeeded.

    """

    host: str
    port: int
    source: str
    seconds: float
    trouble: int = 0


def try_peer(host: str, port: int, timeout: float) -> PeerConnection:
    """Connect and close."""
    before = time.perf_counter()
    try:
        with socket.create_connection((host, port), timeout) as made:
            return PeerConnection(host, port, str(made.getsockname()[0]), time.perf_counter() - before)
    except OSError as error:
        trouble = error.errno or errno.ETIMEDOUT
        return PeerConnection(host, port, _find_source(host), time.perf_counter() - before, trouble)


def _find_source(host: str) -> str:
    """Return the address that the routing table selects; nothing is sent."""
    family = find_family(host)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.connect((host, 9))
            return str(trial.getsockname()[0])
    except OSError:  # no route, or a kernel without that family
        return ""


def judge_peer(connection: PeerConnection, ip: str) -> Finding:
    """Judge the connection to a peer; ``ip`` is our address for the others, empty if unknown."""
    peer = join_host_port(connection.host, connection.port)
    if not connection.source:
        return fail(
            "peer", f"there is no route to {peer}", "check the interface's network and the routing table"
        )
    if connection.trouble == errno.ECONNREFUSED:
        detail = f"{peer} is reachable, but nothing listens there, or a firewall rejects the connection"
        return warn("peer", detail, "start the agent there, and allow the ranks' ports in the firewall")
    if connection.trouble:
        detail = f"{peer} does not answer from {connection.source}: {os.strerror(connection.trouble)}"
        return fail("peer", detail, "allow all TCP ports between the ranks; check security groups")
    detail = f"{peer} answers after {connection.seconds * 1000:.1f} ms"
    if ip and connection.source != ip and not ip_address(connection.source).is_loopback:
        remedy = (
            "set COMM_IFNAME to the interface with that address, "
            "or use the peers' addresses on this interface"
        )
        return warn("peer", f"{detail}, but the route there starts at {connection.source}, not {ip}", remedy)
    return ok("peer", detail)
