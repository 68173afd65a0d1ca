"""A command for people believes no agent without proof, and tells nobody the password of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.local import unitagent
from tests.acceptance.solo import UNIT, Solo
from tests.ports import free_port
from tests.security.starting import started
from tests.waiting import until

SECRET = "correct horse battery staple 5"  # noqa: S105
COMMANDS = ["status", "drain", "restart", "events", "timeline", "endpoints"]
THERE = "127.0.0.3"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("role", ["agent", "store"])
def test_whoever_has_taken_the_addresses_of_an_agent_learns_nothing(
    tmp_path: Path, command: str, role: str
) -> None:
    port, heard = free_port(), tmp_path / "heard"
    heard.touch()
    with started("impostor.py", THERE, port, heard, role):
        done = unitagent(
            command, "--unit", "unit", "--http-address", f"{THERE}:{port}",
            UNIT_SECRET=SECRET, MASTER_ADDRESS=THERE,
        )  # fmt: skip
    said = heard.read_text()
    assert "connected to the store" not in said
    assert SECRET not in said
    assert done.returncode == 69, done
    assert "UNIT_SECRET" in done.stderr
    assert "evil" not in done.stdout


def test_an_agent_that_knows_the_secret_is_believed(tmp_path: Path) -> None:
    solo = Solo(tmp_path, UNIT_SECRET=SECRET)
    try:
        solo.ready()
        until(
            lambda: f"Unit {UNIT}: ready for " in solo.run("status"),
            "since when is known with the next heartbeat",
        )
        assert "rank 0" in solo.run("events")
        assert "asked Unit" in solo.run("restart", "--wait")
        assert solo.ready()["generation"] == 2
    finally:
        solo.close()
