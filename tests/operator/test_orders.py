"""``unitagent drain --wait`` and ``restart --wait`` as processes, of real Units."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNIT, LocalUnit, unitagent
from tests.acceptance.solo import UNIT as SOLO
from tests.acceptance.solo import Solo
from tests.ports import free_port
from tests.servers import running
from tests.traffic.units import Unit
from tests.waiting import DEADLINE

# Ends a while after it was asked to, and notes that; its name in a process list is this script.
SLOW = 'trap "sleep 1; touch $0/ended.$RANK_ID; exit" TERM; while :; do sleep 0.1; done'


def asked(kind: str, address: str, unit: str = UNIT) -> subprocess.CompletedProcess[str]:
    done = unitagent(kind, "--wait", "--unit", unit, "--http-address", address)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[LocalUnit]:
    slow = ["sh", "-c", SLOW, str(tmp_path)]
    started = LocalUnit(tmp_path, "--guard", "--deregister-seconds", "0.1", workload=slow)
    yield started
    started.close()


def test_a_drain_is_waited_for(unit: LocalUnit, tmp_path: Path) -> None:
    unit.ready()
    assert f"asked Unit {UNIT} to drain (generation 1)" in asked("drain", unit.address(1)).stderr
    assert {path.name for path in tmp_path.glob("ended.*")} == {"ended.0", "ended.1"}
    assert unit.popen.wait(DEADLINE) == 0


def test_a_restart_is_waited_for(unit: LocalUnit) -> None:
    unit.ready()
    asked("restart", unit.address(0))
    done = unitagent("status", "--json", "--unit", UNIT, "--http-address", unit.address(0))
    seen = json.loads(done.stdout)
    assert (seen["generation"], seen["instances"][1]["state"]) == (2, "running"), seen


def test_a_store_that_ends_with_the_unit_is_no_failure(tmp_path: Path) -> None:
    solo = Solo(tmp_path, "--deregister-seconds", "0.1")
    try:
        solo.ready()
        asked("drain", f"127.0.0.1:{solo.port}", SOLO)
        assert solo.popen.wait(DEADLINE) == 0
    finally:
        solo.close()


@pytest.mark.slow
def test_a_machine_that_is_gone_holds_no_drain_up(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        unit = Unit(1, tmp_path, redis.url, free_port(), free_port())
        unit.start()
        try:
            unit.ready()
            unit.kill_agent(1)
            done = unitagent("drain", "--wait", "--unit", unit.name, UNIT_REDIS_URL=redis.url)
            assert done.returncode == 0, done.stderr
            assert unit.agents[0].wait(60) == 0
        finally:
            unit.stop()
