"""What the settings, the platform and the installed engine make of a command: ``unitagent env --command``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks_table.places import place, plan
from tests.operator.command import run

HERE = {"COMM_IFNAME": "lo", "RANK_IP": "127.0.0.2", "UNIT_ID": "u", "UNIT_FRAMEWORK": "auto"}
UNIT = HERE | {"UNIT_SIZE": "2", "RANK_ID": "0"}
KUBEFLOW = HERE | {
    "PET_NODE_RANK": "1",
    "PET_NNODES": "2:2",
    "PET_NPROC_PER_NODE": "8",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29500",
    "PET_RDZV_BACKEND": "c10d",
    "PET_RDZV_ENDPOINT": "job-node-0-0.job:29400",
    "PET_RDZV_ID": "job",
    "PET_MAX_RESTARTS": "3",
    "MASTER_ADDR": "job-node-0-0.job",
    "MASTER_PORT": "23456",
}
PLACE = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1", "--master-port", "29500"]


def rehearsed(command: str, environ: dict[str, str]) -> dict[str, Any]:
    done = run("env", "--command", "--format", "json", "--", *command.split(), environ=environ)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_kubeflows_rendezvous_makes_way_for_the_units() -> None:
    seen = rehearsed("torchrun a.py", KUBEFLOW | {"MASTER_ADDRESS": "127.0.0.1"})
    assert seen["command"] == ["torchrun", *PLACE, "a.py"]
    given = seen["environment"]
    assert {name: given[name]["value"] for name in ("PET_NNODES", "PET_MASTER_ADDR", "MASTER_ADDR")} == {
        "PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "MASTER_ADDR": "127.0.0.1",
    }  # fmt: skip
    why = "the rendezvous of Kubeflow would be the same in every generation"
    assert given["PET_MASTER_ADDR"]["source"] == f"instead of 'job-node-0-0.job': {why}"
    gone = ("PET_MAX_RESTARTS", "PET_RDZV_BACKEND", "PET_RDZV_ENDPOINT", "PET_RDZV_ID")
    assert seen["removed"] == dict.fromkeys(gone, why)


def test_they_are_the_users_where_the_user_gave_the_rank() -> None:
    given = {"UNIT_SIZE": "2", "RANK_ID": "1", "MASTER_ADDRESS": "127.0.0.1", "PET_RDZV_BACKEND": ""}
    seen = rehearsed("torchrun a.py", KUBEFLOW | given | {"PET_RDZV_ENDPOINT": ""})
    assert seen["command"] == ["torchrun", *PLACE[2:4], *PLACE[6:], "a.py"]
    assert seen["removed"] == {}


@pytest.mark.parametrize(
    ("graces", "seconds"),
    [
        ({}, "2"),
        ({"UNIT_STOP_GRACE_SECONDS": "100"}, "2"),  # an engine that fails is not to wait for longer
        ({"UNIT_STOP_GRACE_SECONDS": "100", "UNIT_RESTART_GRACE_SECONDS": "20"}, "10"),
        ({"UNIT_DRAIN_SECONDS": "0", "UNIT_RESTART_GRACE_SECONDS": "60"}, "17"),
        ({"UNIT_STOP_GRACE_SECONDS": "4"}, "1"),
    ],
)
def test_how_long_vllm_may_take_for_requests_in_flight(
    tmp_path: Path, graces: dict[str, str], seconds: str
) -> None:
    (tmp_path / "lib/python3.12/site-packages/vllm-0.32.0+cpu.dist-info").mkdir(parents=True)
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    seen = rehearsed(f"{program} serve M", UNIT | graces)
    assert seen["command"][-2:] == ["--shutdown-timeout", seconds]


@pytest.mark.parametrize(("version", "worker"), [("0.33.0", False), ("0.32.0+cpu", True), ("", False)])
def test_what_vllm_imports_is_known(version: str, worker: bool) -> None:
    for size in (1, 2):
        made = plan("vllm", "vllm serve m", place(size=size, version=version))
        assert "vllm.v1.engine.core" in made.warm_modules
        assert ("vllm.v1.worker.cpu_worker" in made.warm_modules) == worker


@pytest.mark.parametrize("command", ["vllm serve m", "python3 -m sglang.launch_server --model-path m"])
def test_engines_that_ignore_sigterm_get_a_short_grace_after_a_failure(command: str) -> None:
    framework = "vllm" if "vllm" in command else "sglang"
    for rank in (0, 1):
        made = plan(framework, command, place(rank))
        assert made.restart_grace == 0.5
        assert made.warm_modules


def test_launchers_know_no_modules() -> None:
    assert plan("torchrun", "torchrun x.py", place()).warm_modules == ()


def test_a_request_that_warms_vllm_up_is_known_at_rank_0_alone() -> None:
    url, body = plan("vllm", "vllm serve m --port 8123", place(size=2)).warm_up or ("", "{}")
    assert url == "http://127.0.0.1:8123/v1/completions"
    assert json.loads(body)["max_tokens"] == 2  # a prefill and a decode
    alone = plan("vllm", "vllm serve m --ssl-keyfile k", place(size=1)).warm_up
    assert alone is not None
    assert alone[0].startswith("https://")
    assert plan("vllm", "vllm serve m", place(1)).warm_up is None
    assert plan("vllm", "vllm serve m --uds /run/vllm", place()).warm_up is None
    assert plan("sglang", "python3 -m sglang.launch_server --model-path m", place()).warm_up is None


WARM_UP = {"UNIT_WARMUP_URL": "auto"}


@pytest.mark.parametrize(
    ("variables", "command", "health", "notice"),
    [
        ({}, "vllm serve M", "/health every 5 s", ""),
        (WARM_UP, "vllm serve M", ", then POST http://127.0.0.1:8000/v1/completions once", ""),
        (
            WARM_UP | {"UNIT_HEALTH_URL": "http://h/x"},
            "sh x.sh",
            "GET http://h/x every 5 s",
            "no request is known",
        ),
        (WARM_UP, "sh x.sh", "", "no health check"),
        (
            {"UNIT_WARMUP_URL": "http://u:hush@h/w", "UNIT_TRAFFIC_PORT": "80"},
            "sh x.sh",
            "since no health URL is known, then GET http://***@h/w once",
            "",
        ),
        (WARM_UP | {"RANK_ID": "1"}, "vllm serve M", "", ""),
    ],
)
def test_what_is_sent_once_the_workload_is_healthy(
    variables: dict[str, str], command: str, health: str, notice: str
) -> None:
    words = ["env", "--command", "--format", "json", "--", *command.split()]
    done = run(*words, environ=UNIT | variables)
    asked = (json.loads(done.stdout)["health"] or {"asked": ""})["asked"]
    assert health in asked
    assert ("once" in asked) == ("once" in health)
    assert ("UNIT_WARMUP_URL" in done.stderr) == bool(notice)
    assert notice in done.stderr
    assert "hush" not in done.stdout + done.stderr
