"""The parsers of the real weight daemons take what is derived from an engine's command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.installed import PROGRAMS, published
from tests.frameworks_table.test_weight_cache import KEPT, SGLANG, derive

RELEASE = "0.32.0"
COMMANDS = (
    "vllm serve M -tp 4",
    "vllm serve M -tp=4 --host 0.0.0.0 --port 8001 --api-key a b --enable-auto-tool-choice",
    'vllm serve -tp 4 --model M --max-log-len -1 --allowed-origins ["*"] --no-enable-log-requests -asc 4',
    "vllm serve M --tensor_parallel_size 4 --lora-modules a=b c=d --enable-lora --ssl-keyfile=k",
    "vllm serve M -tp 4 --served-model-name a b --middleware x --middleware y",
)


def read(vllm: Path, lines: list[list[str]]) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """What vLLM's daemon understands, and the options that only its server has."""
    words = [vllm / "python", PROGRAMS / "vllm_preload_reads.py"]
    done = subprocess.run(words, input=json.dumps(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen, server = json.loads(done.stdout.splitlines()[-1])
    return seen, server


def test_vllm_s_daemon_understands_every_rank(vllm: Path) -> None:
    cases = [(command, rank) for command in COMMANDS for rank in (0, 1)]
    lines = [list(derive("vllm", command, rank, version=RELEASE).keeper[1:]) for command, rank in cases]
    for (command, rank), seen in zip(cases, read(vllm, lines)[0], strict=True):
        assert seen == {
            "model": "M",
            "tensor_parallel_size": 4,
            "nnodes": 2,
            "node_rank": rank,
            "master_addr": "10.0.0.1",
            "load_format": "auto",
            "dtype": "auto",
            "seed": seen["seed"],
            "weight_cache_master_port": KEPT + 1,
            "weight_cache_health_port": KEPT + 3,
            "weight_cache_health_host": "127.0.0.1",
        }, command


def test_each_option_of_vllm_s_server_is_left_out(vllm: Path) -> None:
    """Every option that its server has and its daemon has not, one at a time."""
    options = {name: takes for name, takes in read(vllm, [])[1].items() if name != "--config"}
    assert len(options) > 50
    for name, takes in options.items():
        if name != "--headless":  # rank 0 must not have it
            words = derive("vllm", f"vllm serve M {name}{' -1' * takes}", version=RELEASE).keeper
            assert name not in words, name
            assert "-1" not in words, name


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("flags", ["--tp 8 --pp-size 2", "--tp=8 --pp=2", "--tensor-parallel-size 8 --pp 2"])
def test_sglang_s_daemon_understands_every_rank(parsers: Path, flags: str, rank: int) -> None:
    made = derive("sglang", f"{SGLANG} {flags} --quantization fp8", rank)
    (seen,) = published(parsers, "sglang-daemon", given=[made.keeper[3:]])
    assert (seen["model_path"], seen["tp_size"], seen["pp_size"]) == ("M", 8, 2)
    assert (seen["gpu_id"], seen["tp_rank"], seen["pp_rank"]) == (None, None, 0)
    assert (seen["nnodes"], seen["node_rank"], seen["quantization"]) == (2, rank, "fp8")
    assert seen["dist_init_method"] == f"tcp://10.0.0.1:{KEPT}"


@pytest.mark.parametrize("rank", [0, 1])
def test_sglang_s_engine_is_the_daemon_s_client(parsers: Path, rank: int) -> None:
    made = derive("sglang", f"{SGLANG} --tp 8", rank)
    (seen,) = published(parsers, "sglang", given=[made.argv[3:]])
    assert (seen["weight_cache_mode"], seen["tp_size"], seen["node_rank"]) == ("client", 8, rank)
