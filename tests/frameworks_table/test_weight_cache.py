"""Keepers that are derived from the command of vLLM or SGLang: what they are, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.frameworks_table.places import place, plan
from unitagent.errors import ConfigurationError
from unitagent.frameworks.interface import LaunchPlan

KEPT = 50000
VLLM_ENDS = f"--weight-cache-master-port {KEPT + 1} --weight-cache-health-port {KEPT + 3}"
VLLM_ENDS += " --weight-cache-health-host 127.0.0.1"
SGLANG = "python3 -m sglang.launch_server --model-path M"


def derive(framework: str, command: str, rank: int = 0, size: int = 2, version: str = "") -> LaunchPlan:
    return plan(framework, command, replace(place(rank, size, version=version), keeper_port=KEPT))


@pytest.mark.parametrize("rank", [0, 1])
def test_vllm_over_two_machines(rank: int) -> None:
    made = derive("vllm", "vllm serve M -tp 16 --port 8001 --api-key a b --quantization fp8", rank)
    native = f"--nnodes 2 --node-rank {rank} --master-addr 10.0.0.1 --master-port 40000"
    expected = f"vllm preload --model M -tp 16 --quantization fp8 {native}"
    assert " ".join(made.keeper) == f"{expected} {VLLM_ENDS}"
    assert made.argv[-2:] == ("--load-format", "ipc_cache")
    assert made.keeper_ready == f"http://127.0.0.1:{KEPT + 3}/health"
    assert ("--headless" in made.argv, "--headless" in made.keeper) == (rank == 1, False)


@pytest.mark.parametrize(
    ("command", "keeper"),
    [
        ("vllm serve M", "vllm preload --model M"),
        ("env A=b /opt/bin/vllm serve --model=M", "env A=b /opt/bin/vllm preload --model=M"),
        ("python3 -m vllm.entrypoints.openai.api_server --model M --uds x",
         "python3 -m vllm.entrypoints.cli.main preload --model M"),
        ("python3 -m vllm.entrypoints.cli.main serve M --no-enable-log-deltas",
         "python3 -m vllm.entrypoints.cli.main preload --model M"),
        ("vllm serve M --lora-modules a=b c=d --max-model-len 9 --enable-auto-tool-choice --dtype half",
         "vllm preload --model M --max-model-len 9 --dtype half"),
        ("vllm serve M --api_key=a --load-format dummy", "vllm preload --model M --load-format dummy"),
        ("vllm serve M --max-log-len -1 --seed -1", "vllm preload --model M --seed -1"),
    ],
)  # fmt: skip
def test_the_flags_of_the_server_are_left_out(command: str, keeper: str) -> None:
    assert " ".join(derive("vllm", command, size=1).keeper) == f"{keeper} {VLLM_ENDS}"


@pytest.mark.parametrize("rank", [0, 1])
def test_sglang_over_two_machines(rank: int) -> None:
    made = derive("sglang", f"{SGLANG} --tp 16", rank)
    words = " ".join(made.keeper)
    assert words.startswith("python3 -m sglang.srt.weight_cache.daemon --model-path M --tp-size 16")
    assert f"--nnodes 2 --node-rank {rank}" in words
    assert made.keeper[-2:] == ("--dist-init-method", f"tcp://10.0.0.1:{KEPT}")
    assert made.argv[-2:] == ("--weight-cache-mode", "client")
    assert made.keeper_ready.startswith("log:")


@pytest.mark.parametrize(
    ("framework", "command", "version", "told"),
    [
        ("vllm", "vllm serve M --enable-eplb", "0.33.0", "--enable-eplb"),
        ("vllm", "vllm serve M --enable-sleep-mode", "0.33.0", "--enable-sleep-mode"),
        ("vllm", "vllm serve M", "0.30.1", "came with 0.31"),
        ("vllm", "vllm serve M", "0.33.0+cpu", "CPU build"),
        ("vllm", "vllm serve M --distributed-executor-backend ray", "0.33.0", "without Ray"),
        ("vllm", "vllm serve M -dp 2 -dpb ray", "0.33.0", "without Ray"),
        ("vllm", "vllm serve M --load-format ipc_cache", "0.33.0", "omit it"),
        ("vllm", "vllm serve --dtype half", "0.33.0", "write the model first"),
        ("sglang", "sglang serve --model-path M", "0.5.23", "does not name"),
        ("sglang", f"{SGLANG} --speculative-algorithm EAGLE", "0.5.23", "no draft model"),
        ("sglang", f"{SGLANG} --speculative-algo EAGLE", "0.5.23", "no draft model"),
        ("sglang", f"{SGLANG} --quantization awq", "0.5.23", "block FP8"),
        ("sglang", f"{SGLANG} --log-level error", "0.5.23", "write info"),
        ("sglang", f"{SGLANG} --weight-cache-mode daemon", "0.5.23", "is set"),
        ("sglang", f"{SGLANG} --dist-init h:1", "0.5.23", "for its own --dist-init-method"),
    ],
)
def test_what_the_daemons_refuse(framework: str, command: str, version: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        derive(framework, command, size=1, version=version)


@pytest.mark.parametrize("framework", ["vllm", "sglang"])
def test_without_a_wish_nothing_is_derived(framework: str) -> None:
    command = "vllm serve M" if framework == "vllm" else SGLANG
    made = plan(framework, command, place(0))
    assert (made.keeper, made.keeper_ready) == ((), "")
    assert not {"ipc_cache", "client"} & set(made.argv)


@pytest.mark.parametrize("flag", ["--tp 8 --pp 2", "--tp=8 --pp=2", "--tp-size 8 --pp-size 2"])
def test_sglang_s_daemon_does_not_take_a_flag_of_the_engine_for_its_own(flag: str) -> None:
    words = " ".join(derive("sglang", f"{SGLANG} {flag}", size=1).keeper).replace("=", " ")
    assert "--tp-size 8 --pp-size 2 --dist-init-method" in words


@pytest.mark.parametrize(
    ("framework", "command", "model"),
    [
        ("vllm", "vllm serve /m -tp 8", "/m"),
        ("vllm", "vllm serve --model=/m", "/m"),
        ("sglang", f"{SGLANG}/x", "M/x"),
        ("sglang", "python3 -m sglang.launch_server --model /m", "/m"),
    ],
)
def test_the_files_that_a_keeper_loads(framework: str, command: str, model: str) -> None:
    assert derive(framework, command, size=1).model == model
