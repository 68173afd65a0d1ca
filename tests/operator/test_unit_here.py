"""Commands that name neither a Unit nor a store: the Unit of the agent here, or what to do where none is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.local import UNIT as NAME
from tests.acceptance.local import LocalUnit, unitagent
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
