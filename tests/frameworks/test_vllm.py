"""A real vLLM spread over two instances loses a part, and the Unit serves again by itself.

One Unit lives through all of it, since its start is what takes long. Each test leaves it serving.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frameworks.vllm_unit import DEATH_NOTICED, PATIENCE, SIZE, VllmUnit
from tests.frameworks_table.places import place, plan
from tests.network.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

CUT = 20.0  # seconds
CUT_NOTICED = 5.0 + 2.0  # its lease, and the slack of a machine with other work
LONG = 100  # tokens, which take seconds
LASTS = pytest.mark.long


@pytest.fixture(scope="module")
def unit(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmUnit]:
    """A Unit that has served a completion."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and process events need root")
    lab = Lab(SIZE, tmp_path_factory.mktemp("vllm"))
    try:
        started = VllmUnit(lab)
        started.wait_serving()
        yield started
        lab.check()
    finally:
        lab.close()


def test_its_metrics_have_the_names_that_are_read(unit: VllmUnit) -> None:
    made = plan("vllm", "vllm serve M", place())
    for name in (*made.running_metrics, made.progress_metric):
        assert unit.metric(str(name)), name


def test_each_rank_tells_what_its_start_was_made_of(unit: VllmUnit) -> None:
    of_all = {"imports", "distributed_init", "weights", "other"}
    leader, other = (unit.lab.agents[rank].status()["engine"] for rank in range(SIZE))
    assert set(leader["phases"]) == of_all | {"kv_cache", "server"}
    assert set(other["phases"]) == of_all
    assert leader["phases"]["imports"] > 1


@pytest.mark.parametrize(
    ("rank", "part"),
    [
        (1, "main"),
        *(pytest.param(*which, marks=LASTS) for which in ((1, "worker"), (0, "main"), (0, "worker"))),
    ],
)
def test_a_process_is_killed_while_idle(unit: VllmUnit, rank: int, part: str) -> None:
    pid = getattr(unit, part)(rank)
    times = unit.survive(f"rank {rank} {part}", lambda: os.kill(pid, signal.SIGKILL))
    assert f"rank {rank} " in times.reason
    assert times.detected < DEATH_NOTICED


@LASTS
def test_a_link_is_cut(unit: VllmUnit) -> None:
    cut = time.monotonic()

    def heal() -> None:
        time.sleep(max(0.0, cut + CUT - time.monotonic()))  # the fault lasts that long
        unit.lab.net.heal(1)

    times = unit.survive("rank 1 cut off", lambda: unit.lab.net.cut(1), heal)
    assert times.detected < CUT_NOTICED


@LASTS
def test_a_worker_that_hangs_in_flight_is_named(unit: VllmUnit) -> None:
    generation, worker = unit.generation(), unit.worker(1)
    asking = threading.Thread(target=lambda: unit.complete(LONG))
    asking.start()
    unit.lab.until(unit.busy, "the request is in flight")

    def hang() -> None:
        os.kill(worker, signal.SIGSTOP)
        unit.lab.told("restart", "--unit", "lab", "--reason", "it hangs")

    unit.survive("rank 1 hangs, in flight", hang)
    asking.join()
    told = unit.lab.told("evidence", "--unit", "lab", "--generation", str(generation))
    assert f"process {worker} of rank 1 is suspended" in told or "rank 1 is suspended" in told
    assert "files, " in told


@LASTS
@pytest.mark.parametrize("rank", [1, 0])
def test_an_agent_is_asked_to_stop_with_a_request_in_flight(unit: VllmUnit, rank: int) -> None:
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(unit.complete(LONG)))
    asking.start()
    unit.lab.until(unit.busy, "the request is in flight")
    unit.survive(
        f"rank {rank} asked, in flight", lambda: ask_to_stop(unit, rank), lambda: replace(unit, rank)
    )
    asking.join()
    assert answers == [LONG]


@LASTS
@pytest.mark.parametrize("rank", [1, 0])
def test_an_agent_is_asked_to_stop_during_imports(unit: VllmUnit, rank: int) -> None:
    generation = unit.generation()
    os.kill(unit.main(rank), signal.SIGKILL)
    unit.lab.until(lambda: unit.started(generation + 1), "both ranks started again")
    unit.survive(
        f"rank {rank} asked, in imports", lambda: ask_to_stop(unit, rank), lambda: replace(unit, rank)
    )


def ask_to_stop(unit: VllmUnit, rank: int) -> None:
    unit.lab.agents[rank].signal(signal.SIGTERM)


def replace(unit: VllmUnit, rank: int) -> None:
    """Do what a platform does with a container that ended."""
    assert unit.lab.agents[rank].code(PATIENCE) == 0
    unit.lab.rebuild(rank)
