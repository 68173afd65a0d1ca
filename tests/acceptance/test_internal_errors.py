"""What an agent does when something of its own fails that never should: no thread, no port, an error of ours.

The faults are put in by a module that a Python of their own imports at its start.
"""

from __future__ import annotations

import os
import signal
import sysconfig
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.local import LocalUnit
from tests.acceptance.solo import Solo
from tests.ports import served_port
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

FAILING = """
import {module} as place

def failing(kept, error, which, calls=[]):
    def called(*words, **options):
        calls.append(None)
        if len(calls) in which:
            raise error
        return kept(*words, **options)
    return called

place.{name} = failing(place.{name}, {error}, {which})
"""
ROOT = Path(__file__).parents[2]
NO_THREAD = 'RuntimeError("can\'t start new thread")'
Start = Callable[..., Solo]
Pair = Callable[[str], LocalUnit]


def broken_python(folder: Path, fault: str) -> str:
    """A Python with all packages of this one that runs this at its start, isolated or not."""
    venv.create(folder / "python", symlinks=True)
    [packages] = (folder / "python").glob("lib/*/site-packages")
    (packages / "broken.pth").write_text(f"{sysconfig.get_paths()['platlib']}\n{ROOT}\n")
    (packages / "sitecustomize.py").write_text(fault)
    return str(folder / "python" / "bin" / "python")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Solo] = []

    def begin(fault: str, **variables: str) -> Solo:
        python = broken_python(tmp_path, fault)
        started.append(Solo(tmp_path, python=python, BROKEN=str(tmp_path), **variables))
        return started[-1]

    yield begin
    for agent in started:
        agent.close()


def failing(function: str, error: str, which: str) -> str:
    """Let calls of a function fail; ``which``: their numbers, from 1."""
    module, name = function.split(":")
    return FAILING.format(module=module, name=name, error=error, which=which)


def workload(agent: Solo) -> procfs.Process:
    found = procfs.read_process(agent.ready()["instances"][0]["pid"])
    assert found is not None
    return found


def gone(process: procfs.Process) -> bool:
    now = procfs.read_process(process.pid)
    return now is None or now.ticks != process.ticks


def test_an_error_of_ours_leaves_no_workload(start: Start) -> None:
    """It ends with 1 and says so in one line."""
    fault = """
import os, unitagent.agent.loop as place
kept = place.record_metrics

def measure(*words):
    kept(*words)
    if os.path.exists(os.environ["BROKEN"] + "/now"):
        raise ZeroDivisionError("for a test")

place.record_metrics = measure
"""
    agent = start(fault)
    process = workload(agent)
    (agent.folder / "now").touch()
    assert agent.popen.wait(DEADLINE) == 1
    assert gone(process)
    assert "Traceback" not in agent.output.read_text()
    assert "error: internal error: ZeroDivisionError: for a test" in agent.output.read_text()


PORT = "unitagent.discovery.master_port:find_master_port"
NO_PORT = "OSError('no 8 free ports')"


def test_a_master_port_is_looked_for_again(start: Start) -> None:
    agent = start(failing(PORT, NO_PORT, "(1, 2)"))
    agent.ready()
    assert agent.output.read_text().count("cannot find a free master port") == 2


def test_a_start_needs_no_port_for_the_next_one(start: Start) -> None:
    agent = start(failing(PORT, NO_PORT, "(2,)"))
    agent.ready()
    assert "cannot find a free master port" not in agent.output.read_text()


def test_a_search_for_a_port_that_fails_oddly_is_made_again(start: Start) -> None:
    agent = start(failing(PORT, "KeyError('for a test')", "(1, 2)"))
    agent.ready()
    assert agent.output.read_text().count("internal error: KeyError('for a test')") == 2


def test_requests_that_cannot_be_counted_hold_nobody_up(start: Start) -> None:
    fault = failing("unitagent.probes.in_flight:InFlightRequests.wait_idle", "KeyError('for a test')", "(1,)")
    patient = {"UNIT_DRAIN_SECONDS": "1000", "UNIT_STOP_GRACE_SECONDS": "2000"}
    agent = start(fault, UNIT_TRAFFIC_PORT=str(served_port()), **patient)
    agent.ready()
    agent.popen.terminate()
    assert agent.popen.wait(DEADLINE) == 0
    assert "internal error: KeyError('for a test')" in agent.output.read_text()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A Unit of two with a fault in both."""
    started: list[LocalUnit] = []

    def begin(fault: str) -> LocalUnit:
        quick = ("--guard", "--lease-seconds", "2", "--heartbeat-seconds", "0.5")
        started.append(LocalUnit(tmp_path, *quick, python=broken_python(tmp_path, fault)))
        return started[-1]

    yield begin
    for unit in started:
        unit.close()


def test_peers_that_cannot_be_checked_are_checked_again(pair: Pair) -> None:
    unit = pair(failing("unitagent.probes.peers:Peers.check_peers", "KeyError('for a test')", "(1, 2)"))
    unit.ready()
    assert "internal error: KeyError('for a test')" in unit.output.read_text()


def test_a_peer_that_cannot_be_asked_has_not_answered(pair: Pair) -> None:
    after_barrier = "range(2, 10**6)"  # there each agent asks the other once who it is
    unit = pair(failing("unitagent.probes.peers:Peers.ask_peer", "KeyError('for a test')", after_barrier))
    unit.ready()
    victim = next(child for child in psutil.Process(unit.popen.pid).children() if _rank(child) == "1")
    victim.kill()
    until(lambda: (unit.ask().get("failure") or {}).get("rank") == 1, "rank 1 is missed")


def _rank(agent: psutil.Process) -> str | None:
    return agent.environ().get("RANK_ID")


def test_an_exchange_that_fails_oddly_is_one_that_failed(start: Start) -> None:
    agent = start(failing("unitagent.store.redis_store:RedisStore.exchange", NO_THREAD, "range(1, 4)"))
    agent.ready()


def test_a_workload_that_cannot_be_ended_has_the_container_rebuilt(start: Start) -> None:
    fault = failing(
        "unitagent.workload.lifecycle:Workload._end_workload", "OSError(24, 'Too many open files')", "(1,)"
    )
    agent = start(fault)
    os.kill(workload(agent).pid, signal.SIGKILL)
    assert agent.popen.wait(DEADLINE) == 75
    assert "the workload could not be stopped: OSError(24, 'Too many open files')" in agent.output.read_text()


def test_the_embedded_store_is_started_until_it_starts(start: Start) -> None:
    agent = start(
        failing("unitagent.store.embedded:EmbeddedServer.spawn_server", "OSError(11, 'none')", "(2, 3)")
    )
    agent.ready()
    first = _store(agent)
    os.kill(first, signal.SIGKILL)
    until(lambda: _store(agent) not in (0, first), "it runs again")
    until(lambda: agent.status()["store"]["connected"], "it is used again")
    assert agent.output.read_text().count("cannot start the embedded store") == 2


def _store(agent: Solo) -> int:
    below = procfs.select_descendants(procfs.read_process_table(), agent.popen.pid)
    return next((one.pid for one in below if "-server" in one.name and one.alive), 0)


def test_traffic_is_announced_whatever_went_wrong_before(start: Start) -> None:
    fault = failing(
        "unitagent.store.registry:Registry.announce_endpoint", "ValueError('for a test')", "(1, 2)"
    )
    port = served_port()
    agent = start(fault, UNIT_TRAFFIC_PORT=str(port))
    agent.ready()
    until(lambda: _entries(agent, port), "it is announced")
    assert (
        agent.output.read_text().count("cannot publish the endpoint of this Unit in the store: for a test")
        == 1
    )


def _entries(agent: Solo, port: int) -> bool:
    url = f"redis://127.0.0.1:{agent.port + 1}"
    return f'"port": {port}' in agent.run("endpoints", "--redis-url", url)
