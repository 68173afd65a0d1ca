"""The finder in real network namespaces, with interfaces as platforms make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


class Namespace:
    """A network namespace of its own, with ``lo`` up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *lines: str) -> None:
        for line in lines:
            subprocess.run(["ip", "-n", self.name, *line.split()], check=True)

    def start(self, ifname: str, rank_ip: str, wait: float) -> subprocess.Popen[str]:
        """Start the finder."""
        python = [sys.executable, "-m", "tests.discovery.find", ifname, rank_ip, str(wait)]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *python],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def told(self, ifname: str = "") -> list[str]:
        """What the finder says of its choice."""
        output, _ = self.start(ifname, "", 0).communicate(timeout=60)
        return [line["waiting"] for line in map(json.loads, output.splitlines()) if "waiting" in line]

    def find(self, ifname: str = "", rank_ip: str = "", wait: float = 0) -> dict[str, Any]:
        """Run the finder to its end and give its last word."""
        output, _ = self.start(ifname, rank_ip, wait).communicate(timeout=120)
        last: dict[str, Any] = json.loads(output.splitlines()[-1])
        return last


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid():
        pytest.skip("needs root")
    name = f"unitagent-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    made = Namespace(name)
    try:
        made.ip("link set lo up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def interface(name: str, *addresses: str) -> list[str]:
    """Make an interface whose link ends at another one in the same namespace, which has no address."""
    return [
        f"link add {name} type veth peer name x{name}",
        f"link set x{name} up",
        f"link set {name} up",
        *(f"address add {address} dev {name}" for address in addresses),
    ]


def test_net0_goes_before_eth1_before_the_default_route(namespace: Namespace) -> None:
    namespace.ip(*interface("eth0", "10.0.0.2/24"), "route add default via 10.0.0.1")
    assert namespace.find()["found"] == ["eth0", "10.0.0.2", "AF_INET"]
    namespace.ip(*interface("eth1", "10.0.1.2/24"))
    assert namespace.find()["found"] == ["eth1", "10.0.1.2", "AF_INET"]
    namespace.ip(*interface("net0", "10.0.2.2/24"))
    assert namespace.find()["found"] == ["net0", "10.0.2.2", "AF_INET"]
    assert namespace.find("eth0")["found"] == ["eth0", "10.0.0.2", "AF_INET"]


def test_the_default_route_with_the_least_metric(namespace: Namespace) -> None:
    namespace.ip(
        *interface("ena", "10.0.0.2/24"),
        *interface("enb", "10.0.1.2/24"),
        "route add default via 10.0.0.1 metric 200",
        "route add default via 10.0.1.1 metric 100",
    )
    assert namespace.find()["found"] == ["enb", "10.0.1.2", "AF_INET"]


def test_the_only_interface_needs_no_route_but_two_are_not_guessed_between(namespace: Namespace) -> None:
    namespace.ip(*interface("eth0", "10.0.0.2/24"))
    assert namespace.find()["found"] == ["eth0", "10.0.0.2", "AF_INET"]
    namespace.ip(*interface("eth2", "10.0.2.2/24"))
    error = namespace.find()["error"]
    assert "eth0 10.0.0.2" in error
    assert "eth2 10.0.2.2" in error
    assert "COMM_IFNAME" in error


def test_a_interface_that_comes_late_is_waited_for(namespace: Namespace) -> None:
    finder = namespace.start("late0", "", 60)
    assert finder.stdout is not None
    assert "'late0' is not an interface" in json.loads(finder.stdout.readline())["waiting"]
    namespace.ip("link add late0 type veth peer name other")
    assert "no link" in json.loads(finder.stdout.readline())["waiting"]
    namespace.ip("link set other up", "link set late0 up")
    assert "no usable address" in json.loads(finder.stdout.readline())["waiting"]
    namespace.ip("address add 10.9.0.2/24 dev late0")
    assert json.loads(finder.communicate(timeout=60)[0])["found"] == ["late0", "10.9.0.2", "AF_INET"]


def test_ipv6_only_once_the_kernel_has_checked_the_address(namespace: Namespace) -> None:
    namespace.ip(
        *interface("v6", "fd00:1::2/64"),
        "route add default via fd00:1::1 dev v6",
    )
    assert namespace.find(wait=30)["found"] == ["v6", "fd00:1::2", "AF_INET6"]


def test_ipv4_goes_before_ipv6(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1", "fd00:1::2/64", "10.0.0.2/24"))
    assert namespace.find("eth1", wait=30)["found"] == ["eth1", "10.0.0.2", "AF_INET"]


def test_link_local_addresses_are_not_told_to_others(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1", "169.254.7.7/16"))
    error = namespace.find()["error"]
    assert "eth1 has no usable address" in error
    assert "169.254.7.7" in error
    assert namespace.find(rank_ip="169.254.7.7")["found"] == ["eth1", "169.254.7.7", "AF_INET"]


def test_a_link_local_address_is_the_last_choice_on_a_interface_that_was_named(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1", "169.254.7.7/16"))
    assert namespace.find("eth1")["found"] == ["eth1", "169.254.7.7", "AF_INET"]
    assert "link-local addresses only: 169.254.7.7 is used" in namespace.told("eth1")[0]
    assert namespace.find("eth1", wait=60)["found"] == ["eth1", "169.254.7.7", "AF_INET"]
    namespace.ip("address add fd00:1::2/64 dev eth1 nodad")
    assert namespace.find("eth1", wait=60)["found"] == ["eth1", "fd00:1::2", "AF_INET6"]


def test_a_link_local_address_of_ipv6_is_never_told(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1"))
    assert "eth1 has no usable address" in namespace.find("eth1", wait=1)["error"]


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (["link add eth1 type veth peer name other", "link set eth1 up"], "eth1 has no link"),
        ([*interface("eth1")], "eth1 has no usable address"),
        ([*interface("eth1", "169.254.7.7/16")], "eth1 has no usable address"),
        (["link add net0 type veth peer name other", "address add 10.9.9.9/24 dev net0"], "net0 has no link"),
    ],
)
def test_a_usual_interface_of_no_use_is_passed_over(namespace: Namespace, odd: list[str], why: str) -> None:
    namespace.ip(*odd, *interface("ens3", "10.0.0.2/24"), "route add default via 10.0.0.1")
    assert namespace.find(wait=60)["found"] == ["ens3", "10.0.0.2", "AF_INET"]
    (told,) = namespace.told()
    assert why in told
    assert "so ens3 with 10.0.0.2 is used; set COMM_IFNAME" in told


@pytest.mark.parametrize(
    ("ifname", "address", "left"),
    [
        ("", "", "5 s left, then ens3 with 10.0.0.2 is used"),
        ("eth1", "169.254.7.7/16", "5 s left, then eth1 with 169.254.7.7 is used"),
        ("eth1", "", "60 s left"),
    ],
)
def test_the_time_that_is_left_is_the_true_one(
    namespace: Namespace, ifname: str, address: str, left: str
) -> None:
    namespace.ip(*interface("eth1", *filter(None, [address])), *interface("ens3", "10.0.0.2/24"))
    namespace.ip("route add default via 10.0.0.1")
    finder = namespace.start(ifname, "", 60)
    assert finder.stdout is not None
    told = json.loads(finder.stdout.readline())["waiting"]
    finder.terminate()
    finder.communicate(timeout=60)
    assert told == f"the interface eth1 has no usable address; waiting for it, {left}"


def test_eth1_serves_where_net0_is_of_no_use(namespace: Namespace) -> None:
    namespace.ip("link add net0 type veth peer name other", *interface("eth1", "10.0.1.2/24"))
    assert namespace.find(wait=60)["found"] == ["eth1", "10.0.1.2", "AF_INET"]


def test_a_interface_that_was_named_is_never_passed_over(namespace: Namespace) -> None:
    namespace.ip("link add eth1 type veth peer name other", *interface("ens3", "10.0.0.2/24"))
    namespace.ip("route add default via 10.0.0.1")
    assert "eth1 has no link" in namespace.find("eth1", wait=1)["error"]


def test_a_secondary_address_comes_after_the_primary(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1", "10.0.0.9/24", "10.0.0.2/24"))
    assert namespace.find()["found"] == ["eth1", "10.0.0.9", "AF_INET"]
    assert namespace.find(rank_ip="10.0.0.2")["found"] == ["eth1", "10.0.0.2", "AF_INET"]


def test_a_deprecated_address_is_passed_over(namespace: Namespace) -> None:
    namespace.ip(
        *interface("eth1"),
        "address add fd00::9/64 dev eth1 preferred_lft 0",
        "address add fd00::2/64 dev eth1",
    )
    assert namespace.find(wait=30)["found"] == ["eth1", "fd00::2", "AF_INET6"]


def test_a_renamed_interface_is_gone_and_the_error_lists_what_is_there(namespace: Namespace) -> None:
    namespace.ip(
        *interface("eth1", "10.0.0.2/24"), "link set eth1 down", "link set eth1 name ens5", "link set ens5 up"
    )
    error = namespace.find("eth1")["error"]
    assert "COMM_IFNAME='eth1' is not an interface" in error
    assert "ens5 10.0.0.2" in error


@pytest.mark.parametrize("other", ["enP7s7", "enp0s31f6np0-of-a-long-name"])
def test_a_interface_called_by_another_name_of_it(namespace: Namespace, other: str) -> None:
    """Libraries find interfaces by their own names only, so that is what the workload is told."""
    namespace.ip(*interface("eth1", "10.0.1.2/24"), f"link property add dev eth1 altname {other}")
    assert namespace.find(other)["found"] == ["eth1", "10.0.1.2", "AF_INET"]
    assert namespace.find(other, "10.0.1.2")["found"] == ["eth1", "10.0.1.2", "AF_INET"]
    assert f"eth1 (also {other}) 10.0.1.2" in namespace.find("eth7")["error"]


def test_a_interface_without_a_link_is_not_used(namespace: Namespace) -> None:
    namespace.ip(
        "link add eth1 type veth peer name other", "link set eth1 up", "address add 10.0.0.2/24 dev eth1"
    )
    assert "eth1 has no link" in namespace.find()["error"]


def test_an_address_is_found_on_its_interface(namespace: Namespace) -> None:
    namespace.ip(*interface("eth0", "10.0.0.2/24"), *interface("eth1", "10.0.1.2/24"))
    assert namespace.find(rank_ip="10.0.0.2")["found"] == ["eth0", "10.0.0.2", "AF_INET"]
    assert (
        "RANK_IP='10.0.0.3' is not assigned to any interface" in namespace.find(rank_ip="10.0.0.3")["error"]
    )


def test_netlink_is_not_even_imported_when_both_are_given(namespace: Namespace) -> None:
    namespace.ip(*interface("eth1", "10.0.1.2/24"))
    given = namespace.find("eth1", "10.0.1.2")
    assert given == {"found": ["eth1", "10.0.1.2", "AF_INET"], "netlink": False}
    assert namespace.find("eth1")["netlink"]


@pytest.mark.parametrize(("ifname", "rank_ip"), [("eth1", "10.0.1.3"), ("eth7", "10.0.1.2")])
def test_both_given_are_both_checked(namespace: Namespace, ifname: str, rank_ip: str) -> None:
    namespace.ip(*interface("eth1", "10.0.1.2/24"))
    error = namespace.find(ifname, rank_ip)["error"]
    assert (rank_ip if ifname == "eth1" else ifname) in error
    assert "eth1 10.0.1.2" in error


def test_loopback_where_it_is_asked_for_and_only_there(namespace: Namespace) -> None:
    assert "no default route" in namespace.find()["error"]
    assert namespace.find("lo")["found"] == ["lo", "127.0.0.1", "AF_INET"]
    assert namespace.find("lo", "127.0.0.9")["found"] == ["lo", "127.0.0.9", "AF_INET"]
    assert namespace.find(rank_ip="127.1.2.3") == {"found": ["lo", "127.1.2.3", "AF_INET"], "netlink": False}
