"""A real torchrun job of 2 instances x 2 processes loses one process, and computes right sums again in the
next generation. The user's command names neither ranks nor addresses.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.frameworks.engine import contained
from tests.frameworks.installed import PROGRAMS, path
from tests.frameworks.sums import hold_sums, wait_for_sums, worker
from tests.network.conftest import MakeLab
from tests.network.containers import agent_command
from tests.network.lives import Life

pytestmark = pytest.mark.root

INSTANCES, EACH = 2, 2
PROCESSES = INSTANCES * EACH

FLAGS = {
    "none": set[str](),
    "static": {"--nnodes", "--node-rank", "--master-addr", "--master-port"},
    "c10d": {"--nnodes", "--rdzv-endpoint", "--rdzv-conf", "--rdzv-id", "--local-addr"},
}


@pytest.mark.parametrize(
    ("framework", "given", "added"),
    [
        pytest.param(None, [], "none", id="environment"),
        pytest.param("torchrun", [], "static", id="static"),
        pytest.param("auto", ["--rdzv-backend", "c10d"], "c10d", id="c10d"),
    ],
)
def test_a_job_loses_a_process(
    make_lab: MakeLab, torch: Path, framework: str | None, given: list[str], added: str
) -> None:
    lab = make_lab(INSTANCES)
    job = ["torchrun", "--nproc-per-node", str(EACH), *given, str(PROGRAMS / "all_reduce.py")]
    environment = {"UNIT_FRAMEWORK": framework, "PATH": path(torch), "OMP_NUM_THREADS": 1}
    for host in range(INSTANCES):
        lab.launch(host, contained(lab, host, agent_command(*job)), **environment)
    wait_for_sums(lab, PROCESSES, 1)
    for rank in range(INSTANCES):
        words = command_line(lab.main(rank, 1))
        assert words[-len(job) + 1 :] == job[1:]
        assert {word for word in words[: -len(job) + 1] if word.startswith("--")} == FLAGS[added]
    os.kill(worker(lab, rank=1, local_rank=1).pid, signal.SIGKILL)
    wait_for_sums(lab, PROCESSES, 2)
    hold_sums(lab, INSTANCES, EACH)
    status = lab.wait_ready(above=1)
    assert (status["generation"], status["restarts"]) == (2, 1)
    assert status["failure"]["generation"] == 1
    # torchrun says it by its own exit, unless it is so slow that the agent has seen the dead process first
    assert status["failure"]["reason"] in {"exit", "signal"}


def command_line(life: Life) -> list[str]:
    """What a process was started with, its own name left out; behind an interpreter, the script's."""
    words = Path(f"/proc/{life.pid}/cmdline").read_text().rstrip("\0").split("\0")
    names = [at for at, word in enumerate(words) if Path(word).name == "torchrun"]
    return words[names[0] + 1 :]
