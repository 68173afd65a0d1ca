"""Keepers with a real rendezvous beside real workloads: what outlives what, and what nothing outlives."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.kept import Start, is_alive, is_pid_alive, make_start
from tests.acceptance.local import unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE, until

__all__ = ["make_start"]


def test_a_workload_that_dies_finds_its_keepers_again(start: Start) -> None:
    unit = start(size=3)
    seen = unit.ready()
    assert seen["keeper"]["state"] == "ready"
    assert (seen["keeper"]["generation"], seen["keeper"]["not_ready"]) == (1, [])
    assert seen["generation"] == 2
    assert seen["keeper"]["master_port"] != seen["master_port"]
    until(lambda: len(unit.journal("engine", "takes 1")) == 3, "each engine takes what the keepers hold")
    keepers = [unit.keeper(rank) for rank in range(3)]
    daemons = [one for one in unit.survivors() if one.name() == "sleep"]
    assert len(daemons) == 3
    os.kill(seen["instances"][1]["pid"], signal.SIGKILL)
    after = unit.ready(above=seen["generation"])
    assert (after["generation"], after["restarts"]) == (3, 1)
    assert all(map(is_pid_alive, keepers))
    assert all(map(is_alive, daemons)), "a daemon of a keeper is no process of the workload"
    until(lambda: len(unit.journal("engine", "takes 1")) == 6, "each new engine takes it, too")
    assert not unit.journal("engine", "loads")
    assert "keeper: weights are in memory" in unit.read_output()


def test_no_workload_starts_before_the_last_keeper_holds(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.1").touch()
    unit = start()
    until(lambda: unit.journal("keeper", "holds"), "rank 0 holds")
    seen = until(lambda: unit.find_keeper(0, "ready"), "rank 0 tells")
    assert seen["keeper"]["not_ready"] == [1]
    assert seen["phase"] == "forming"
    assert "the keepers of rank 1 are not ready" in seen["conditions"][0]["message"]
    assert not unit.journal("engine")
    (tmp_path / "slow.1").unlink()
    unit.ready()
    last = max(one.at for one in unit.journal("keeper", "holds"))
    assert all(one.at > last for one in unit.journal("engine", "starts"))


@pytest.mark.parametrize("policy", ["restart-unit", "relaunch"])
def test_a_keeper_that_is_killed(start: Start, policy: str) -> None:
    unit = start(UNIT_KEEPER_FAILURE=policy)
    seen = unit.ready()
    old = [unit.keeper(rank) for rank in range(2)]
    os.kill(old[1], signal.SIGKILL)
    if policy == "relaunch":
        gone = until(lambda: unit.find_keeper(1, "absent"), "what is left of it is gone")
        assert gone["ready"]
        assert gone["generation"] == seen["generation"]
        os.kill(seen["instances"][0]["pid"], signal.SIGKILL)
    after = unit.ready(above=seen["generation"])
    assert after["restarts"] == 1
    if policy == "restart-unit":
        assert (after["failure"]["rank"], after["failure"]["signal"]) == (1, 9)
        assert "its keeper was killed by signal 9" in after["failure"]["detail"]
    assert not any(map(is_pid_alive, old))
    assert after["keeper"]["generation"] == after["generation"] - 1
    ends = [one.at for one in unit.journal("keeper", "ends")]
    begins = [one.at for one in unit.journal("keeper", "starts") if one.generation > 1]
    assert max(ends) < min(begins), "no keeper of the new group starts beside one of the old group"


def test_a_keeper_that_is_killed_while_it_loads(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.1").touch()
    unit = start(UNIT_KEEPER_FAILURE="relaunch")
    until(lambda: unit.journal("keeper", "holds"), "rank 0 holds")
    os.kill(unit.keeper(1), signal.SIGKILL)
    (tmp_path / "slow.1").unlink()
    after = unit.ready()
    assert (after["failure"]["generation"], after["failure"]["rank"], after["restarts"]) == (1, 1, 1)
    assert (after["keeper"]["generation"], after["generation"]) == (2, 3)


def test_an_instance_that_is_replaced_restarts_all_keepers(start: Start) -> None:
    unit = start(size=3)
    seen = unit.ready()
    old = [unit.keeper(rank) for rank in range(3)]
    unit.agents[2].kill()
    unit.agents[2].wait(DEADLINE)
    until(lambda: not is_pid_alive(old[2]), "the watchdog ends the keeper of an agent that was killed")
    unit.start(2)
    after = unit.ready(above=seen["generation"])
    assert not any(map(is_pid_alive, old))
    first = min(one.at for one in unit.journal("keeper", "starts") if one.generation > 1)
    assert all(one.at < first for one in unit.journal("keeper", "ends"))
    assert after["keeper"]["generation"] == after["generation"] - 1
    assert not unit.journal("engine", "loads")


def test_a_drain_ends_keepers_last_and_leaves_nothing(start: Start) -> None:
    unit = start()
    unit.ready()
    until(lambda: len(unit.journal("engine", "takes")) == 2, "both engines have begun")
    where = ("--http-address", f"127.0.0.1:{unit.port}", "--unit", unit.env["UNIT_ID"])
    drained = unitagent("drain", "--wait", *where)
    assert drained.returncode == 0, drained.stderr
    assert [agent.wait(DEADLINE) for agent in unit.agents.values()] == [0, 0], unit.read_output()
    until(lambda: not unit.survivors(), "no process is left")
    for rank in range(2):
        engine = [one.at for one in unit.journal("engine", "ends") if one.rank == rank]
        keeper = [one.at for one in unit.journal("keeper", "ends") if one.rank == rank]
        assert len(keeper) == 1
        assert engine[-1] < keeper[0]


@pytest.mark.parametrize("kind", ["tcp", "file", "http"])
def test_other_signs_that_a_keeper_is_ready(start: Start, tmp_path: Path, kind: str) -> None:
    port, path = free_port(), tmp_path / "ready"
    path.touch()  # what an earlier one left does not count
    server = f"-m http.server {port} --bind 127.0.0.1"
    code = f"import pathlib, time; time.sleep(1); pathlib.Path({str(path)!r}).unlink(); "
    code += f"pathlib.Path({str(path)!r}).write_text(''); time.sleep(1000)"
    signs = {"tcp": f"tcp:{port}", "http": f"http://127.0.0.1:{port}/", "file": f"file:{path}"}
    command = f'-c "{code}"' if kind == "file" else server
    unit = start(size=1, UNIT_KEEPER=f"{sys.executable} {command}", UNIT_KEEPER_READY=signs[kind])
    assert unit.ready()["keeper"]["state"] == "ready"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"UNIT_KEEPER_READY": ""}, "UNIT_KEEPER_READY missing"),
        ({"UNIT_GUARD": "false"}, "UNIT_GUARD=false (environment) with UNIT_KEEPER: must be true"),
        ({"UNIT_MODE": "job"}, "UNIT_MODE=job (environment) with UNIT_KEEPER: must be service"),
        ({"UNIT_RESTART": "recreate"}, "must be inplace, since it does not outlive its container"),
        ({"UNIT_KEEPER": ""}, "UNIT_KEEPER_READY=tcp:1 (environment) without UNIT_KEEPER"),
        ({"UNIT_KEEPER_READY": "log:("}, "not a regular expression"),
        ({"UNIT_KEEPER_READY": "tcp:x"}, "tcp:PORT"),
        ({"UNIT_KEEPER": "auto", "UNIT_KEEPER_READY": ""}, "no keeper is known for this command"),
    ],
)
def test_what_is_refused(variables: dict[str, str], told: str) -> None:
    given = {"UNIT_KEEPER": "sleep 9", "UNIT_KEEPER_READY": "tcp:1", "UNIT_GUARD": "true", **variables}
    done = unitagent("run", "--size", "1", "--rank", "0", "--", "true", **given)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_keeper_that_is_not_there_ends_the_agent_before_it_joins() -> None:
    given = {"UNIT_KEEPER": "no-such-keeper", "UNIT_KEEPER_READY": "tcp:1"}
    done = unitagent("run", "--size", "1", "--rank", "0", "--guard", "--", "true", **given)
    assert done.returncode == 127
    assert "no-such-keeper" in done.stderr
