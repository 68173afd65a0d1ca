"""The cables of a lab: N hosts with two interfaces each, a store behind a router, a switch in between.

``eth0`` (10.88.0.k) is the default route and leads to the store; ``eth1`` (10.88.1.k) joins the hosts and is
the interface that agents choose. Packets are lost without a word to anybody, by queues of length 0 at the
ends of a cable: each end drops what is sent into it, so each direction can be cut alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tests.network.namespaces import Namespace

Segment = Literal["front", "comm"]
Direction = Literal["in", "out"]

SEGMENTS: dict[Segment, str] = {"front": "eth0", "comm": "eth1"}
STORE_IP = "10.99.0.1"
_ROUTER = "10.88.0.254"
_IMPAIR = Path(__file__).parent / "programs" / "impair.py"


class Cabling:
    """Namespaces and cables of one lab."""

    def __init__(self, hosts: int) -> None:
        self.hosts = [Namespace() for _ in range(hosts)]
        self.store = Namespace()
        self._switch = Namespace()
        self._cut: set[tuple[int, Segment, Direction]] = set()
        self._impairing: subprocess.Popen[str] | None = None
        self._plug()

    def ip(self, host: int, segment: Segment = "comm") -> str:
        return f"10.88.{list(SEGMENTS).index(segment)}.{host + 1}"

    def cut(
        self,
        host: int,
        segments: Iterable[Segment] = tuple(SEGMENTS),
        directions: Iterable[Direction] = ("in", "out"),
    ) -> None:
        """Lose all packets on these cables of a host."""
        for segment in segments:
            for direction in directions:
                self._queue("replace", host, segment, direction)
                self._cut.add((host, segment, direction))

    def heal(self, host: int | None = None) -> None:
        """Take the cuts of a host away, or of all hosts."""
        for cut in [cut for cut in self._cut if host in (None, cut[0])]:
            self._queue("del", *cut)
            self._cut.discard(cut)

    def impair(self, delay: float, loss: float, segments: Iterable[Segment] = ("front", "comm")) -> None:
        """Delay what hosts send by ``delay`` seconds and lose this share of it, on whole segments."""
        self.repair()
        ports = [port for segment in segments for port in self._ports(segment)]
        self._switch.ip(*(f"link set {port} nomaster" for port in ports))
        program = [sys.executable, "-S", "-E", str(_IMPAIR), str(delay), str(loss), "1", *ports]
        leash = ["setpriv", "--pdeathsig", "KILL", "--"]
        self._impairing = subprocess.Popen(
            [*self._switch.enter(), *leash, *program],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._impairing.stdout is not None
        assert self._impairing.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._unplug_impairment()
        for namespace in (*self.hosts, self.store, self._switch):
            namespace.close()

    def repair(self) -> None:
        """Take the impairment away."""
        if self._unplug_impairment():
            ports = ((segment, port) for segment in SEGMENTS for port in self._ports(segment))
            self._switch.ip(*(f"link set {port} master {segment}" for segment, port in ports))

    def _unplug_impairment(self) -> bool:
        if self._impairing is None:
            return False
        self._impairing.kill()
        self._impairing.communicate()
        self._impairing = None
        return True

    def _ports(self, segment: Segment) -> list[str]:
        hosts = [f"{segment}{host}" for host in range(len(self.hosts))]
        return [*hosts, "frontstore"] if segment == "front" else hosts

    def _queue(self, verb: str, host: int, segment: Segment, direction: Direction) -> None:
        if direction == "out":
            self.hosts[host].tc(f"qdisc {verb} dev {SEGMENTS[segment]} root pfifo limit 0")
        else:
            self._switch.tc(f"qdisc {verb} dev {segment}{host} root pfifo limit 0")

    def _plug(self) -> None:
        ends = [
            (segment, f"{segment}{host}", interface, namespace)
            for segment, interface in SEGMENTS.items()
            for host, namespace in enumerate(self.hosts)
        ]
        ends.append(("front", "frontstore", "eth0", self.store))
        commands = [f"link add {segment} type bridge mcast_snooping 0" for segment in SEGMENTS]
        commands += [f"link set {segment} up" for segment in SEGMENTS]
        for segment, port, interface, namespace in ends:
            commands.append(f"link add {port} type veth peer name {interface} netns {namespace.path}")
            commands.append(f"link set {port} master {segment} up")
        self._switch.ip(*commands)
        for host, namespace in enumerate(self.hosts):
            namespace.ip(
                "link set lo up",
                *(
                    f"addr add {self.ip(host, segment)}/24 dev {interface}"
                    for segment, interface in SEGMENTS.items()
                ),
                *(f"link set {interface} up" for interface in SEGMENTS.values()),
                f"route add default via {_ROUTER}",
            )
        self.store.ip(
            "link set lo up",
            f"addr add {STORE_IP}/32 dev lo",
            f"addr add {_ROUTER}/24 dev eth0",
            "link set eth0 up",
        )
