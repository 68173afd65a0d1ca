"""vLLM's own parser takes what the adapter makes of a command, and reads the places of the ranks from it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.frameworks.installed import PROGRAMS
from tests.frameworks_table.places import PORT, place, plan
from unitagent.discovery.installed_version import find_installed_version

READER = PROGRAMS / "vllm_reads.py"
LEADER = "10.0.0.1"


def read(vllm: Path, lines: list[list[str]]) -> list[dict[str, Any]]:
    """What vLLM understands."""
    words = [vllm / "python", READER]
    done = subprocess.run(words, input=json.dumps(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def planned(rank: int, size: int, flags: str) -> list[str]:
    """The words behind ``vllm`` as the adapter plans them for a rank."""
    return list(plan("vllm", f"vllm serve M {flags}", place(rank, size)).argv[1:])


def known(vllm: Path, rank: int, flags: str = "") -> list[str]:
    """The same when the version of the installed vLLM is known, as it is to an agent."""
    version = find_installed_version("vllm", [str(vllm / "vllm"), "serve", "M"], None)
    assert version
    at = place(rank, version=version, shutdown_timeout=7)
    return list(plan("vllm", f"vllm serve M {flags}", at).argv[1:])


def native(rank: int, size: int = 2, **differs: object) -> dict[str, object]:
    """What vLLM is to understand with its multi-node executor, unless something differs."""
    return {
        "model_tag": "M",
        "nnodes": size,
        "node_rank": rank,
        "headless": rank > 0,
        "master_addr": LEADER,
        "master_port": PORT,
        "data_parallel_size": 1,
        "data_parallel_start_rank": None,
        "shutdown_timeout": 0,
    } | differs


def replicated(rank: int, local: int, **differs: object) -> dict[str, object]:
    """What vLLM is to understand with data parallelism."""
    return {
        "nnodes": 1,
        "headless": rank > 0,
        "data_parallel_size": 2 * local,
        "data_parallel_size_local": local,
        "data_parallel_start_rank": rank * local or None,
        "data_parallel_address": LEADER,
        "data_parallel_rpc_port": PORT + 1,
    } | differs


def test_vllm_understands_every_rank(vllm: Path) -> None:
    cases: list[tuple[list[str], dict[str, object]]] = [
        (planned(0, 2, "-tp 2"), native(0)),
        (planned(1, 2, "-tp 2"), native(1)),
        (known(vllm, 0), native(0, shutdown_timeout=7)),
        (known(vllm, 1), native(1)),
        (known(vllm, 0, "--shutdown-timeout=60"), native(0, shutdown_timeout=60)),
        (planned(3, 4, "-tp 2 -pp 2"), native(3, 4)),
        (planned(1, 2, "--nnodes=2 -r 1 --master_addr=h"), native(1, master_addr="h")),
        (planned(1, 2, "-n 2 --api-server-count 4"), native(1, api_server_count=0)),
        (planned(0, 2, "-dp 2"), replicated(0, 1)),
        (planned(1, 2, "-dp 2"), replicated(1, 1)),
        (planned(1, 2, "--data-parallel-size 8 -tp 2"), replicated(1, 4)),
        (planned(1, 2, "-dp 2 --data-parallel-hybrid-lb"), replicated(1, 1, headless=False)),
        (planned(1, 2, "-dp 2 -dpe"), {"data_parallel_rank": 1, "headless": False, "nnodes": 1}),
        (planned(1, 4, "-dp 2 -tp 4"), native(1, 4, data_parallel_size=2)),
    ]
    understood = read(vllm, [words for words, _ in cases])
    assert [each | wanted for each, (_, wanted) in zip(understood, cases, strict=True)] == understood


def test_what_vllm_reads_in_a_file(vllm: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("port: 18001\ntensor-parallel-size: 2\nnnodes: 2\ncompilation-config:\n  mode: 0\n")
    other = tmp_path / "dp.yaml"
    other.write_text("data_parallel_size: 4\nport: 18001\n")
    lines = [planned(rank, 2, f"--config {file}") for rank in (0, 1)]
    lines += [planned(0, 2, f"--config {file} --port 18002"), planned(1, 2, f"--config {other}")]
    assert lines[0].count("--nnodes") == 0
    seen = read(vllm, lines)
    assert [each | native(rank) for each, rank in zip(seen, (0, 1, 0), strict=False)] == seen[:3]
    assert seen[3] | replicated(1, 2) == seen[3]
    ports = [
        plan("vllm", " ".join(["vllm", *words]), place(0)).traffic_port for words in (lines[0], lines[2])
    ]
    assert ports == [seen[0]["port"], seen[2]["port"]] == [18001, 18002]
