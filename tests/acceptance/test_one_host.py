"""Instances that share a host's address, as with host networking: only their ports tell them apart."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.ports import free_port
from tests.waiting import DEADLINE, until

SHARED = {"UNIT_SECRET": "one host, two of us"}


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(
    folder: Path, ends: ExitStack, rank: int, port: int, *options: str, **variables: str
) -> subprocess.Popen[bytes]:
    """Start one of two instances at 127.0.0.1, that writes what it says beside its rank."""
    words = ["--size", "2", "--rank", str(rank), "--rank-ip", "127.0.0.1", "--master-address", "127.0.0.1"]
    words += ["--comm-ifname", "lo", "--http-address", f"0.0.0.0:{port}", "--log-level", "debug", *options]
    with (folder / str(rank)).open("wb") as output:
        agent = subprocess.Popen(
            [*UNITAGENT, "run", *words, "--", "sleep", "1000"],
            env=clean(**SHARED, **variables), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
    ends.callback(agent.wait, DEADLINE)
    ends.callback(agent.terminate)
    return agent


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            return bool(json.load(answer)["ready"])
    except OSError:
        return False


def test_a_unit_forms_where_only_the_ports_differ(tmp_path: Path, ends: ExitStack) -> None:
    ports, store = (free_port(), free_port()), free_port()
    for rank, port in enumerate(ports):
        start(tmp_path, ends, rank, port, UNIT_STORE_PORT=str(store))
    until(lambda: all(map(is_ready, ports)), "both say that the Unit serves")
    status = [*UNITAGENT, "status", "--http-address", f"127.0.0.1:{ports[1]}"]
    told = subprocess.run(status, env=clean(), capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ": ready for " in told.stdout


def test_where_an_embedded_store_was_looked_for_is_told(tmp_path: Path, ends: ExitStack) -> None:
    port = free_port()
    agent = start(tmp_path, ends, 1, port, "--store-timeout-seconds", "1")
    assert agent.wait(DEADLINE) == 69
    said = (tmp_path / "1").read_text()
    where = r"the embedded store at 127\.0\.0\.1:(\d+) \(UNIT_STORE_PORT\) cannot be reached: "
    found = re.search(where + "Connection refused; .*", said)
    assert found
    assert int(found[1]) == port + 1
    assert all(name in found[0] for name in ("UNIT_STORE_PORT", "MASTER_ADDRESS", "UNIT_REDIS_URL"))


def test_a_port_that_is_taken_is_told_with_the_variable(tmp_path: Path, ends: ExitStack) -> None:
    port = free_port()
    taken = ends.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
    agent = start(tmp_path, ends, 0, port, UNIT_STORE_PORT=str(taken))
    assert agent.wait(DEADLINE) == 69
    assert "to use another port, set UNIT_STORE_PORT on all ranks" in (tmp_path / "0").read_text()
