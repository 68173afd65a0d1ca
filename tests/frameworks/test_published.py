"""The parsers that SGLang and LMDeploy publish understand what the adapters make of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.installed import published
from tests.frameworks_table.places import PORT, place, plan
from unitagent.frameworks.accelerate import _WITHOUT_VALUE
from unitagent.frameworks.interface import RankContext

PLACES = [(rank, base) for rank in (0, 1, 2) for base in ("10.0.0.", "fd00::")]


def read(parsers: Path, start: str, flags: str, at: RankContext) -> dict[str, Any]:
    """What the parser makes of the arguments of a rank's engine."""
    framework = start.split(maxsplit=1)[0]
    argv = plan(framework, f"{start} {flags}", at).argv
    found: list[dict[str, Any]] = published(parsers, framework, given=[argv[len(start.split()) :]])
    return found[0]


@pytest.mark.parametrize(("rank", "base"), PLACES)
def test_sglang(parsers: Path, rank: int, base: str) -> None:
    flags = "--model-path M --tp-size 24 --enable-metrics --port 8000"
    seen = read(parsers, "sglang serve", flags, place(rank, 3, base))
    host = f"[{base}1]" if ":" in base else f"{base}1"
    assert (seen["nnodes"], seen["node_rank"], seen["dist_init_addr"]) == (3, rank, f"{host}:{PORT}")
    listens = {"10.0.0.": "0.0.0.0", "fd00::": "::"}[base] if rank == 0 else "127.0.0.1"
    assert seen["host"] == listens
    assert (seen["enable_metrics"], seen["port"], seen["tp_size"]) == (True, 8000, 24)


@pytest.mark.parametrize("own", ["", " --port 18002 --host 10.0.0.9"])
def test_what_sglang_reads_in_a_file(parsers: Path, tmp_path: Path, own: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("port: 18001\nenable-metrics: true\nhost: '10.0.0.1'\nnnodes: 2\ntp-size: 4\n")
    flags = f"--model-path M --config {file}{own}"
    seen = read(parsers, "sglang serve", flags, place(0))
    made = plan("sglang", f"sglang serve {flags}", place(0))
    assert (seen["nnodes"], seen["node_rank"], seen["enable_metrics"]) == (2, 0, True)
    assert made.health == f"http://{seen['host']}:{seen['port']}/health"
    assert made.metrics_url == f"http://{seen['host']}:{seen['port']}/metrics"
    assert made.traffic_port == (18002 if own else 18001)


@pytest.mark.parametrize(("rank", "base"), PLACES)
def test_lmdeploy(parsers: Path, rank: int, base: str) -> None:
    flags = "M --tp 24 --server-port 8000"
    seen = read(parsers, "lmdeploy serve api_server", flags, place(rank, 3, base))
    host = f"[{base}1]" if ":" in base else f"{base}1"
    assert (seen["nnodes"], seen["node_rank"], seen["dist_init_addr"]) == (3, rank, f"{host}:{PORT}")
    assert seen["server_name"] == "0.0.0.0"
    assert (seen["model_path"], seen["tp"], seen["server_port"]) == ("M", 24, 8000)


@pytest.mark.parametrize(("rank", "base"), PLACES)
@pytest.mark.parametrize("flags", ["--num_processes 6 a.py --lr 1", "-m --multi_gpu --num-processes=3 a --x"])
def test_accelerate(parsers: Path, flags: str, rank: int, base: str) -> None:
    seen = read(parsers, "accelerate launch", flags, place(rank, 3, base))
    host = f"[{base}1]" if ":" in base else f"{base}1"
    assert (seen["num_machines"], seen["machine_rank"]) == (3, rank)
    assert (seen["main_process_ip"], seen["main_process_port"]) == (host, PORT)
    assert (seen["training_script"], seen["training_script_args"]) in [
        ("a.py", ["--lr", "1"]),
        ("a", ["--x"]),
    ]


def test_the_names_that_the_adapters_read_are_published(parsers: Path) -> None:
    """What a user may say about place and door must be found under every name that the engine knows."""
    sglang = published(parsers, "sglang", "options")
    assert {
        "--nnodes",
        "--node-rank",
        "--dist-init-addr",
        "--nccl-init-addr",
        "--enable-metrics",
    } <= sglang.keys()
    assert {"--port", "--host", "--ssl-certfile", "--ssl-keyfile"} <= sglang.keys()
    accelerate = published(parsers, "accelerate", "options")
    assert {
        "--num_machines",
        "--machine_rank",
        "--main_process_ip",
        "--main_process_port",
    } <= accelerate.keys()
    switches = {name.replace("_", "-") for name, valued in accelerate.items() if not valued}
    assert switches - {"--help", "-h"} <= _WITHOUT_VALUE
    lmdeploy = published(parsers, "lmdeploy", "options")
    assert {"--nnodes", "--node-rank", "--dist-init-addr", "--backend", "--dp"} <= lmdeploy.keys()
    assert {"--server-port", "--server-name", "--ssl"} <= lmdeploy.keys()
