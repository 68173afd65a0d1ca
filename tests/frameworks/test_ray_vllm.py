"""vLLM's Ray executor: one command on all ranks makes a real Ray cluster, and rank 0 serves in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.engine import SCRATCH, contained
from tests.frameworks.installed import PROGRAMS, path
from tests.network.conftest import MakeLab
from tests.network.containers import agent_command
from tests.network.lab import Lab

pytestmark = pytest.mark.root

SIZE = 3
PATIENCE = 200.0  # seconds for a Ray cluster of three on a machine with other work
COMMAND = ["vllm", "serve", "M", "--tensor-parallel-size", "3", "--port", "8000"]
COMMAND += ["--distributed-executor-backend", "ray"]


def test_rank_0_serves_when_all_nodes_are_alive(make_lab: MakeLab, ray: Path) -> None:
    lab = make_lab(SIZE)
    programs = lab.folder / "bin"
    programs.mkdir()
    (programs / "vllm").write_text(f'#!/bin/sh\nexec {ray}/python {PROGRAMS}/vllm_stand_in.py "$@"\n')
    (programs / "vllm").chmod(0o755)
    for host in range(SIZE):
        words = contained(lab, host, agent_command(*COMMAND))
        environment = {"UNIT_FRAMEWORK": "auto", "PATH": f"{programs}:{path(ray)}", "RAY_TMPDIR": SCRATCH}
        lab.launch(host, words, **environment)
    ips = sorted(lab.net.ip(host) for host in range(SIZE))
    for generation in (1, 2):
        served = serving(lab, generation)
        assert (served["rank"], served["alive"], served["own_ip"]) == (0, ips, lab.net.ip(0))
        assert served["words"] == COMMAND[1:]
        assert lab.wait_ready(above=generation - 1)["instances"][0]["state"] == "healthy"
        if generation == 1:
            lab.strike(1)


def serving(lab: Lab, generation: int) -> dict[str, Any]:
    """Wait until rank 0 serves, and give what it noted."""
    lab.until(lambda: lab.events("serve", generation=generation), f"generation {generation} serves", PATIENCE)
    return lab.events("serve", generation=generation)[0]
