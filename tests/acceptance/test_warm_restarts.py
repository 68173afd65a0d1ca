"""An agent whose workload is restarted from a process that has imported its modules already."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.solo import Solo
from tests.ports import free_port
from tests.waiting import until
from unitagent.system import procfs

NEXT = "the next start is warm"
PROGRAM = (
    "import decimal, os, sys, time; sys.stdout.write(os.environ['MASTER_PORT'] + chr(10)); time.sleep(1000)"
)
COMMAND = (sys.executable, "-u", "-c", PROGRAM)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Solo]]:
    units: list[Solo] = []

    def begin(program: str = PROGRAM, **variables: str) -> Solo:
        given = {
            "UNIT_WARM": "auto",
            "UNIT_WARM_MODULES": "decimal,json",
            "UNIT_BACKOFF_SECONDS": "0",
            **variables,
        }
        units.append(Solo(tmp_path, command=(*COMMAND[:-1], program), **given))
        return units[-1]

    yield begin
    for unit in units:
        unit.close()


def crash(unit: Solo, generation: int) -> dict[str, Any]:
    """Kill the workload; how the next one was started."""
    os.kill(unit.status()["instances"][0]["pid"], signal.SIGKILL)
    found: dict[str, Any] = unit.ready(above=generation)["start"]
    return found


def is_warm(start: dict[str, Any]) -> bool:
    """Whether a start was warm, with all that is said of one."""
    seconds = start["fork_seconds"], start["saved_seconds"]
    if start["kind"] == "cold":
        assert seconds == (None, None)
        assert start["why"]
        return False
    assert start["why"] == ""
    assert all(0 < one < 60 for one in seconds)
    return True


def test_each_restart_is_warm_once_the_unit_has_been_ready(start: Callable[..., Solo]) -> None:
    unit = start()
    first = unit.ready()["start"]
    assert not is_warm(first)
    assert first["why"] == "its gate is built once the Unit is ready"
    until(lambda: NEXT in unit.output.read_text(), "the gate has imported")
    for generation in (1, 2, 3):
        until(lambda: waits(unit), "a process waits")
        until(partial(has_ports, unit, generation), "it has run")
        assert is_warm(crash(unit, generation))
    until(partial(has_ports, unit, 4), "each generation has its own master port")


def has_ports(unit: Solo, count: int) -> bool:
    """Whether the workloads were given so many master ports."""
    return len({line for line in unit.output.read_text().splitlines() if line.isdecimal()}) == count


def waits(unit: Solo) -> bool:
    """Whether a process waits for the next start."""
    start = unit.status()["start"]
    return start is not None and start["next"]["kind"] == "warm"


def test_the_first_start_can_be_warm(start: Callable[..., Solo]) -> None:
    assert is_warm(start(UNIT_WARM="first").ready()["start"])


def test_everybody_says_how_it_was_started(start: Callable[..., Solo]) -> None:
    unit = start()
    unit.ready()
    until(lambda: waits(unit), "a process waits")
    assert (
        "rank 0 started cold: its gate is built once the Unit is ready; its next start is warm"
        in unit.run("status")
    )
    crash(unit, 1)
    until(lambda: waits(unit), "a process waits")
    told = unit.status()["start"]["message"]
    assert re.fullmatch(
        r"rank 0 started warm \(forked in 0\.\d+ s; \d+\.\d s of imports saved\); its next start is warm",
        told,
    )
    assert f"start: {told}" in unit.run("status")
    assert "the workload starts warm (forked in" in unit.output.read_text()
    events = unit.run("events")
    assert "its workload started cold: its gate is built once the Unit is ready" in events
    assert "its workload started warm (forked in" in events
    metrics = unit.get("/metrics")
    for sample in ('workload_starts_total{kind="cold"} 1.0', 'workload_starts_total{kind="warm"} 1.0'):
        assert f"unitagent_{sample}" in metrics
    assert "unitagent_next_start_warm 1.0" in metrics
    assert 'unitagent_warm_start_seconds{part="fork"} 0.' in metrics


def test_a_gate_that_is_lost_shows_before_the_next_start(start: Callable[..., Solo]) -> None:
    unit = start(UNIT_WARM="first")
    assert is_warm(unit.ready()["start"])
    until(lambda: waits(unit), "a process waits")
    (gate,) = (one for one in procfs.find_descendants(unit.popen.pid) if one.name == "unit-gate")
    procfs.kill_process(gate)
    following = until(
        lambda: (one := unit.status()["start"]["next"])["kind"] == "cold" and one, "it is missed"
    )
    assert "its gate was killed by signal 9 (SIGKILL)" in following["why"]
    assert unit.status()["start"]["kind"] == "warm"
    assert "unitagent_next_start_warm 0.0" in unit.get("/metrics")


def test_where_warm_starts_are_off_nothing_is_said_of_them(start: Callable[..., Solo]) -> None:
    unit = start(UNIT_WARM="off")
    assert unit.ready()["start"]["next"] == {"kind": "cold", "why": "UNIT_WARM=off"}
    assert "start:" not in unit.run("status")
    assert "its workload started" not in unit.run("events")
    metrics = unit.get("/metrics")
    assert 'unitagent_workload_starts_total{kind="cold"} 1.0' in metrics
    assert "unitagent_next_start_warm 0" not in metrics


@pytest.mark.parametrize("how", ["sys.exit(7)", "time.sleep(1000)"], ids=["exits", "hangs"])
def test_a_warm_start_that_fails_is_followed_by_a_cold_one_and_a_second_one_by_cold_ones_alone(
    start: Callable[..., Solo], how: str
) -> None:
    port = free_port()
    program = f"""
import os, socket, sys, time
if os.environ["UNIT_GENERATION"] in ("2", "4"):
    {how}
server = socket.create_server(("127.0.0.1", {port}))
time.sleep(1000)
"""
    given = {
        "UNIT_TRAFFIC_PORT": str(port),
        "UNIT_STARTUP_SECONDS": "3",
        "UNIT_HEALTH_INTERVAL_SECONDS": "0.2",
    }
    unit = start(program=program, **given)
    unit.ready()
    until(lambda: waits(unit), "a process waits")
    after_one = crash(unit, 1)
    assert unit.status()["generation"] == 3
    assert after_one["why"] == "a workload that was started warm failed before it was ready"
    until(lambda: waits(unit), "a new gate has forked")
    after_two = crash(unit, 3)
    assert unit.status()["generation"] == 5
    off = "warm start is off after 2 failures: a workload that was started warm failed before it was ready"
    assert (after_two["kind"], after_two["why"]) == ("cold", off)
    assert after_two["next"] == {"kind": "cold", "why": off}
    assert not is_warm(crash(unit, 5))
    assert not waits(unit)
    assert off in unit.run("status")


def test_a_unit_without_modules_starts_cold_and_says_so(start: Callable[..., Solo]) -> None:
    unit = start(UNIT_WARM_MODULES="")
    unit.ready()
    assert "set UNIT_WARM_MODULES" in crash(unit, 1)["why"]


def test_nothing_is_left_after_a_stop(start: Callable[..., Solo]) -> None:
    unit = start(UNIT_WARM="first", UNIT_DEREGISTER_SECONDS="0")
    unit.ready()
    until(lambda: waits(unit), "a process waits")
    family = procfs.find_descendants(unit.popen.pid)
    unit.popen.send_signal(signal.SIGTERM)
    assert unit.popen.wait(60) == 0
    until(lambda: not any(is_alive(one) for one in family), "all have ended")


def is_alive(process: procfs.Process) -> bool:
    now = procfs.read_process(process.pid)
    return now is not None and now.ticks == process.ticks and now.alive


@pytest.mark.parametrize("name", ["unit-gate", "unitagent-watchdog"])
def test_a_killed_service_costs_no_restart(start: Callable[..., Solo], name: str) -> None:
    unit = start(UNIT_WARM="first")
    unit.ready()
    until(lambda: waits(unit), "a process waits")
    for one in procfs.find_descendants(unit.popen.pid):
        if one.name == name or name.encode() in (procfs.PROC / str(one.pid) / "cmdline").read_bytes():
            procfs.kill_process(one)
    until(lambda: "SIGKILL" in unit.output.read_text(), "it was noticed")
    assert unit.status()["generation"] == 1
    assert unit.status()["ready"]


def test_an_agent_that_is_killed_leaves_no_gate(start: Callable[..., Solo]) -> None:
    unit = start(UNIT_WARM="first")
    unit.ready()
    until(lambda: waits(unit), "a process waits")
    family = procfs.find_descendants(unit.popen.pid)
    unit.popen.kill()
    until(lambda: not any(is_alive(one) for one in family), "all have ended")
