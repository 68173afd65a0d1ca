"""A real DeepSpeed job of 2 instances x 2 processes loses one, and computes right sums again; and DeepSpeed's
own parser understands what the adapter makes of a command.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.frameworks.engine import SCRATCH, contained
from tests.frameworks.installed import PROGRAMS, path, published
from tests.frameworks.sums import hold_sums, wait_for_sums, worker
from tests.frameworks_table.places import PORT, place, plan
from tests.network.conftest import MakeLab
from tests.network.containers import agent_command

INSTANCES, EACH = 2, 2


@pytest.mark.root
def test_a_job_loses_a_process(make_lab: MakeLab, deepspeed: Path) -> None:
    lab = make_lab(INSTANCES)
    job = ["deepspeed", "--num_gpus", str(EACH), str(PROGRAMS / "all_reduce.py")]
    environment = {
        "UNIT_FRAMEWORK": "auto",
        "PATH": path(deepspeed),
        "OMP_NUM_THREADS": 1,
        "TMPDIR": SCRATCH,
        "HOME": SCRATCH,
    }
    for host in range(INSTANCES):
        lab.launch(host, contained(lab, host, agent_command(*job)), **environment)
    wait_for_sums(lab, INSTANCES * EACH, 1)
    os.kill(worker(lab, rank=1, local_rank=1).pid, signal.SIGKILL)
    wait_for_sums(lab, INSTANCES * EACH, 2)
    hold_sums(lab, INSTANCES, EACH)
    status = lab.wait_ready(above=1)
    assert (status["generation"], status["restarts"], status["failure"]["generation"]) == (2, 1, 1)


def test_deepspeed_understands_every_rank(deepspeed: Path) -> None:
    cases = [
        ("deepspeed -H /hosts a.py --node_rank 7", rank, base)
        for rank in (0, 1)
        for base in ("10.0.0.", "fd00::")
    ]
    words = [plan("deepspeed", line, place(rank, 2, base)).argv[1:] for line, rank, base in cases]
    for (_, rank, base), read in zip(cases, published(deepspeed, "deepspeed", given=words), strict=True):
        assert (read["no_ssh"], read["node_rank"], read["hostfile"]) == (True, rank, "/hosts")
        assert (read["master_addr"], read["master_port"]) == (f"{base}1", PORT)
        assert (read["user_script"], read["user_args"]) == ("a.py", ["--node_rank", "7"])


def test_no_option_hides_where_the_program_begins(deepspeed: Path) -> None:
    """The adapter has to know which options take a value, of all that this DeepSpeed has."""
    options: dict[str, bool] = published(deepspeed, "deepspeed", "options")
    placing = {"--node_rank", "--num_nodes", "--hostfile", "--help", "-h", "-H", "--no_ssh"}
    tried = [name for name in sorted(options) if name not in placing]
    assert len(tried) > 15
    lines = [f"deepspeed {name}{' 1' if options[name] else ''} -H /hosts a.py -x" for name in tried]
    # A hostfile that is not seen behind an option would be offered once more.
    seen = {
        name: plan("deepspeed", line, place(1)).argv[-2:] for name, line in zip(tried, lines, strict=True)
    }
    assert seen == dict.fromkeys(tried, ("a.py", "-x"))
    unseen = [
        name
        for name, line in zip(tried, lines, strict=True)
        if "--hostfile" in plan("deepspeed", line, place(1)).argv
    ]
    assert unseen == []
