from __future__ import annotations

import pytest

from tests.frameworks_table.places import line, place, plan
from unitagent.errors import ConfigurationError

START = "lmdeploy serve api_server M --tp 16"


@pytest.mark.parametrize(
    ("rank", "size", "flags", "added"),
    [
        (0, 1, "", ""),
        (0, 2, "", " --nnodes 2 --node-rank 0 --dist-init-addr 10.0.0.1:40000"),
        (1, 2, "", " --nnodes 2 --node-rank 1 --dist-init-addr 10.0.0.1:40000"),
        (1, 2, " --node-rank=1 --dist-init-addr h:1", " --nnodes 2"),
        (1, 2, " --backend pytorch --dp 2", " --nnodes 2 --node-rank 1"),
    ],
)
def test_place(rank: int, size: int, flags: str, added: str) -> None:
    assert line("lmdeploy", START + flags, place(rank, size)) == START + flags + added


def test_contradiction() -> None:
    with pytest.raises(ConfigurationError, match="--nnodes 3"):
        line("lmdeploy", f"{START} --nnodes 3", place())


def test_the_pytorch_engine_is_on_ray() -> None:
    made = plan("lmdeploy", f"{START} --backend=pytorch", place(0))
    assert made.argv[3:9] == ("ray-head", "2", "10.0.0.1", "40000", "10.0.0.1:40000", "false")
    assert made.argv[9:] == (*START.split(), "--backend=pytorch")
    assert made.env["LMDEPLOY_EXECUTOR_BACKEND"] == "ray"
    assert made.required_processes == ("gcs_server", "raylet")
    assert plan("lmdeploy", f"{START} --backend=pytorch", place(1)).argv[3] == "ray-node"


def test_replicas_of_the_pytorch_engine_meet_at_rank_0() -> None:
    made = plan("lmdeploy", f"{START} --backend pytorch --dp 2", place(1), LMDEPLOY_DP_MASTER_ADDR="h")
    assert made.env == {
        "LMDEPLOY_DIST_MASTER_ADDR": "10.0.0.1",
        "LMDEPLOY_DIST_MASTER_PORT": "40000",
        "LMDEPLOY_DP_MASTER_PORT": "40001",
    }
    assert set(made.origins) == {*made.env, "--nnodes", "--node-rank"}


def test_where_it_serves() -> None:
    assert plan("lmdeploy", START, place()).health == "http://127.0.0.1:23333/health"
    made = plan("lmdeploy", f"{START} --server-port 9 --server-name 10.0.0.1", place())
    assert (made.traffic_port, made.health) == (9, "http://10.0.0.1:9/health")
    assert plan("lmdeploy", f"{START} --ssl", place()).health == "tcp://127.0.0.1:23333"
    assert plan("lmdeploy", START, place(1)).traffic_port is None
