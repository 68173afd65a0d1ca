"""The namespace that an agent listens in, as a proof of place: with real sockets and real namespaces."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.network.namespaces import Namespace
from tests.ports import free_port
from unitagent.discovery import network
from unitagent.discovery.network import find_own_netns

if TYPE_CHECKING:
    from pathlib import Path

HOST = "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        (HOST, HOST),
        ("0.0.0.0", HOST),
        ("0.0.0.0", "10.0.0.1"),
        ("::", "fd00::1"),
        ("[::]", "fd00::1"),
        ("::", "10.0.0.1"),  # it takes IPv4 as well
        ("::1", "::1"),
        ("[::1]", "0:0:0:0:0:0:0:1"),
    ],
)
def test_who_is_the_only_one_there_knows_its_place(host: str, ip: str) -> None:
    port = free_port()
    token = find_own_netns(host, port, ip)
    assert token
    assert token == find_own_netns(host, port, ip) == find_own_netns(HOST, free_port(), HOST)


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        (HOST, "10.0.0.1"),
        (HOST, "127.0.0.2"),
        ("::1", HOST),
        ("0.0.0.0", "fd00::1"),
        ("localhost", HOST),  # a name may lead anywhere
        ("0.0.0.0", ""),
        ("0.0.0.0", "nobody"),
        ("", HOST),
    ],
)
def test_another_address_is_no_place_of_mine(host: str, ip: str) -> None:
    assert find_own_netns(host, free_port(), ip) == ""


def test_without_a_probe_port_the_namespace_is_where_this_process_is() -> None:
    assert (
        find_own_netns("", 0, HOST)
        == find_own_netns(HOST, 0, "10.0.0.1")
        == find_own_netns(HOST, free_port(), HOST)
    )


@pytest.mark.parametrize("theirs", [HOST, "0.0.0.0", "::"])
@pytest.mark.parametrize("mine", [HOST, "0.0.0.0", "::"])
def test_a_port_that_somebody_listens_on_is_no_place_of_mine(theirs: str, mine: str) -> None:
    family = socket.AF_INET6 if ":" in theirs else socket.AF_INET
    port = free_port()
    with socket.create_server((theirs, port), family=family, dualstack_ipv6=theirs == "::"):
        assert find_own_netns(mine, port, HOST) == ""
    assert find_own_netns(mine, port, HOST)


def test_a_port_that_was_left_with_its_connections_unfinished_is_free() -> None:
    """As a killed agent leaves it, whose peers held connections."""
    port = free_port()
    with socket.create_server((HOST, port)) as listening, socket.create_connection((HOST, port)) as peer:
        accepted, _ = listening.accept()
        accepted.close()  # first, so that this end has to wait for stray packets
        assert peer.recv(1) == b""
    assert find_own_netns(HOST, port, HOST)


def test_a_kernel_that_hides_itself_is_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, hidden in (("_BOOT", tmp_path / "nothing"), ("_NAMESPACE", tmp_path / "nothing")):
        with monkeypatch.context() as patch:
            patch.setattr(network, name, hidden)
            assert find_own_netns(HOST, free_port(), HOST) == ""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    monkeypatch.setattr(network, "_BOOT", binary)
    assert find_own_netns(HOST, free_port(), HOST) == ""


def test_after_a_boot_it_is_another_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel numbers its namespaces anew."""
    before, boot = find_own_netns(HOST, free_port(), HOST), tmp_path / "boot_id"
    boot.write_text("00000000-0000-0000-0000-000000000001\n")
    monkeypatch.setattr(network, "_BOOT", boot)
    assert find_own_netns(HOST, free_port(), HOST) not in {"", before}


FIND = """
from unitagent.discovery.network import find_own_netns
from tests.ports import free_port
print(find_own_netns("0.0.0.0", free_port(), "10.0.0.1"))
"""


def found_by_another(*before: str) -> str:
    """What a process of its own finds, behind these words of a command."""
    done = subprocess.run([*before, sys.executable, "-c", FIND], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_two_processes_of_one_namespace_have_one_place() -> None:
    assert found_by_another() == found_by_another() == find_own_netns(HOST, free_port(), HOST)


@pytest.mark.root
def test_the_same_address_in_two_namespaces_is_two_places() -> None:
    one, other = Namespace(), Namespace()
    try:
        tokens = [found_by_another(*space.enter()) for space in (one, other, one, other)]
    finally:
        one.close()
        other.close()
    assert tokens[:2] == tokens[2:]
    assert len({"", found_by_another(), *tokens}) == 4
