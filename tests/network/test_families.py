"""Addresses of two families, with default settings: IPv6 alone, IPv4 alone, one of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.network.containers import ROOT, Container, agent_command
from tests.network.namespaces import Namespace
from tests.waiting import until

V4, V6 = ("10.99.0.1", "10.99.0.2"), ("fd00:99::1", "fd00:99::2")
PORT = 9470
Start = Callable[..., Container]

pytestmark = pytest.mark.root


@pytest.fixture
def hosts() -> Iterator[list[Namespace]]:
    """Two machines with a cable between them."""
    made = [Namespace(), Namespace()]
    made[0].ip(f"link add eth0 type veth peer name eth0 netns {made[1].path}", "link set lo up")
    made[1].ip("link set lo up")
    yield made
    for one in made:
        one.close()


@pytest.fixture
def start(hosts: list[Namespace], tmp_path: Path) -> Iterator[Start]:
    started: list[Container] = []

    def begin(rank: int, *words: str, **given: str) -> Container:
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT), "UNIT_LOG_FORMAT": "text",
            "UNIT_ID": "lab", "UNIT_SIZE": "2", "UNIT_GUARD": "true", "UNIT_SECRET": "families" * 4,
            "RANK_ID": str(rank), **given,
        }  # fmt: skip
        words = words or ("sleep", "infinity")
        started.append(Container(f"host{rank}", hosts[rank], tmp_path, agent_command(*words), env))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def give(hosts: list[Namespace], *addresses: tuple[str, str]) -> None:
    for number, host in enumerate(hosts):
        host.ip("link set eth0 up", *(f"address add {one[number]}" for one in addresses))


def long(ips: tuple[str, str]) -> tuple[str, str]:
    first, second = (f"{ip}/64 dev eth0 nodad" if ":" in ip else f"{ip}/24 dev eth0" for ip in ips)
    return first, second


def test_two_hosts_with_ipv6_alone_form_with_default_settings(hosts: list[Namespace], start: Start) -> None:
    """And whoever asks from outside, as a kubelet does, is answered in that family."""
    give(hosts, long(V6))
    words = ("sh", "-c", "echo meet at $0; sleep infinity", "{MASTER_ENDPOINT}")
    boxes = [start(rank, *words, MASTER_ADDRESS=f"[{V6[0]}]") for rank in range(2)]
    until(lambda: all(box.ready() for box in boxes), "the Unit is ready")  # asked over IPv4's loopback
    port = boxes[1].status()["master_port"]
    until(lambda: boxes[1].said(f"meet at [{V6[0]}]:{port}"), "the workload was told")
    for ip in V6:
        probe = [*hosts[0].enter(), *agent_command()[:3], "probe", "ready", "--address", f"[{ip}]:{PORT}"]
        subprocess.run(probe, check=True, timeout=30, cwd=ROOT)


def test_hosts_without_ipv6_form_with_default_settings(hosts: list[Namespace], start: Start) -> None:
    for host in hosts:
        switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
        subprocess.run([*host.enter(), "sh", "-c", f"echo 1 >{switch}"], check=True)
    give(hosts, long(V4))
    boxes = [start(rank, MASTER_ADDRESS=V4[0]) for rank in range(2)]
    until(lambda: all(box.ready() for box in boxes), "the Unit is ready")


def test_ranks_of_two_families_are_told_so(hosts: list[Namespace], start: Start) -> None:
    give(hosts, long(V4), long(V6))
    boxes = [start(rank, MASTER_ADDRESS=V4[0], RANK_IP=ip) for rank, ip in enumerate((V4[0], V6[1]))]
    words = (
        f"rank 1 ({V6[1]}) is IPv6, rank 0 ({V4[0]}) IPv4",
        f"rank 0 ({V4[0]}) is IPv4, rank 1 ({V6[1]}) IPv6",
    )
    until(lambda: all(box.said(told) for box, told in zip(boxes, words, strict=True)), "both tell it")
    assert not any(box.said("firewall") for box in boxes)


def test_a_leader_of_the_other_family_is_told(hosts: list[Namespace], start: Start) -> None:
    """Each host has both families, of which IPv4 is taken, and the platform tells rank 0's IPv6."""
    give(hosts, long(V4), long(V6))
    start(0)
    box = start(1, MASTER_ADDRESS=V6[0])
    told = f"{V6[0]} is IPv6 and this instance's address {V4[1]} IPv4: "
    until(lambda: box.said(told, "addresses of one family"), "that is told")


@pytest.mark.parametrize(
    ("probes", "family", "own"),
    [
        ("127.0.0.1:9470", V4, f"{V4[0]}:9470"),
        ("localhost:9470", V4, f"{V4[0]}:9470"),
        ("0.0.0.0:9480", V6, f"[{V6[0]}]:9480"),
        ("[::1]:9470", V6, f"[{V6[0]}]:9470"),
    ],
)
def test_a_probe_address_that_the_others_do_not_reach_is_refused(
    hosts: list[Namespace], start: Start, probes: str, family: tuple[str, str], own: str
) -> None:
    give(hosts, long(family))
    box = start(0, UNIT_HTTP_ADDRESS=probes)
    assert box.code() == 2
    assert box.said(f"UNIT_HTTP_ADDRESS={probes}: ", f"ask this one at {own}, ", "set it to ")


def test_alone_a_unit_may_have_its_probes_where_it_likes(hosts: list[Namespace], start: Start) -> None:
    give(hosts, long(V4))
    box = start(0, UNIT_SIZE="1", UNIT_HTTP_ADDRESS="127.0.0.1:9470")
    until(box.ready, "the Unit is ready")


def test_an_address_and_a_port_without_brackets_are_told(hosts: list[Namespace], start: Start) -> None:
    give(hosts, long(V6))
    box = start(0, "sh", "-c", "sleep infinity # $MASTER_ADDR:$MASTER_PORT")
    until(lambda: box.said("COMMAND has $MASTER_ADDR and a port", "{MASTER_ENDPOINT}"), "that is told")


def test_rank_0_that_is_told_its_address_of_the_other_family_says_so(
    hosts: list[Namespace], start: Start
) -> None:
    """It takes IPv4 first, and its store listens there."""
    give(hosts, long(V4), long(V6))
    box = start(0, MASTER_ADDRESS=V6[0])
    until(
        lambda: box.said(f"MASTER_ADDRESS={V6[0]} is another address", f"set RANK_IP={V6[0]}"), "it is told"
    )
    other = start(1, MASTER_ADDRESS=V4[0])
    until(lambda: box.ready() and other.ready(), "the Unit is ready")
    assert not other.said("is another address")
