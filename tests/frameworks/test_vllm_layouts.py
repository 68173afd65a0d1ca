"""A real vLLM with its replicas, or its layers, spread over two instances; one command for both ranks."""

from __future__ import annotations

import os
import signal

import pytest

from tests.frameworks.vllm_unit import DEATH_NOTICED, SIZE, VllmUnit
from tests.network.conftest import MakeLab

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(900)]

DATA = ("--data-parallel-size", "2", "--enforce-eager")
MADE = "vllm:generation_tokens_total"
# On a CPU vLLM 0.32 prepares what its pipeline stages exchange only where it compiles.
PIPELINE = ("--pipeline-parallel-size", "2", "--compilation-config", '{"mode":2,"backend":"eager"}')


@pytest.mark.parametrize(
    ("layout", "engines"),
    [pytest.param(DATA, {"0", "1"}, id="data"), pytest.param(PIPELINE, {"0"}, id="pipeline")],
)
@pytest.mark.usefixtures("vllm")
def test_it_serves_and_loses_a_process(make_lab: MakeLab, layout: tuple[str, ...], engines: set[str]) -> None:
    unit = VllmUnit(make_lab(SIZE), layout)
    unit.wait_serving()
    pid = unit.main(1)
    times = unit.survive(f"rank 1 main, {layout[0]}", lambda: os.kill(pid, signal.SIGKILL))
    assert times.detected < DEATH_NOTICED
    before = unit.metric(MADE)
    assert all(unit.complete() for _ in range(4))

    def worked() -> bool:
        return {
            engine for engine, made in unit.metric(MADE).items() if made > before.get(engine, 0)
        } == engines

    unit.lab.until(worked, "every replica made tokens")
