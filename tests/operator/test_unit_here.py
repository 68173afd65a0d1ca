"""Commands that name neither a Unit nor a store: the Unit of the agent here, or what to do where none is."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import UNIT as NAME
from tests.acceptance.local import LocalUnit, unitagent
from tests.acceptance.solo import Solo
from tests.ports import free_port


def test_all_commands_find_the_unit_of_the_agent_here(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, "--guard", "--deregister-seconds", "0.1")
    try:
        unit.ready()
        here = ["--http-address", unit.address(1)]
        assert json.loads(unitagent("status", "--json", *here).stdout)["unit"] == NAME
        other = unitagent("status", "--unit", "other", *here)
        assert (other.returncode, other.stdout, other.stderr.count("\n")) == (1, "", 1)
        assert (
            f"UNIT_ID=other: the agent at {unit.address(1)} belongs to Unit {NAME}; run this" in other.stderr
        )
        done = unitagent("restart", "--wait", *here)
        assert (done.returncode, f"asked Unit {NAME} to restart" in done.stderr) == (0, True), done.stderr
        assert "barrier of generation 2" in unitagent("events", *here).stdout
        assert f"Unit {NAME}: " in unitagent("timeline", *here).stdout
        other = unitagent("drain", "--unit", "other", *here)
        assert (other.returncode, "UNIT_ID=other: no such Unit" in other.stderr) == (1, True)
        done = unitagent("drain", "--wait", *here)
        assert done.returncode == 0, done.stderr
        assert "drained: every rank has stopped after " in done.stderr
    finally:
        unit.close()


@pytest.mark.parametrize("command", ["status", "events", "timeline", "list", "endpoints", "drain", "restart"])
def test_where_neither_an_agent_nor_a_store_is_known_it_says_what_to_do(command: str) -> None:
    port = free_port()
    done = unitagent(command, "--http-address", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)
    assert (
        f"no agent answers at 127.0.0.1:{port}, and no store is named; run this command in a" in done.stderr
    )


def test_the_store_of_a_unit_of_one_is_found_where_only_its_host_reaches_it(tmp_path: Path) -> None:
    """It has no secret, so its store listens at 127.0.0.1, as in a container with defaults."""
    cards = psutil.net_if_addrs().items()
    found = [
        (name, one.address)
        for name, addresses in cards
        for one in addresses
        if one.family == socket.AF_INET and not one.address.startswith("127.")
    ]
    if not found:
        pytest.skip("needs an address that is not of this host alone")
    name, address = found[0]
    solo = Solo(tmp_path, "--comm-ifname", name, "--rank-ip", address)
    try:
        assert solo.ready()["instances"][0]["ip"] == address
        assert "restarted: every rank serves" in solo.run("restart", "--wait")
        assert "asked for a restart" in solo.run("events")
    finally:
        solo.close()
