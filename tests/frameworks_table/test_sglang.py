from __future__ import annotations

import pytest

from tests.frameworks_table.places import bare, line, place, plan
from unitagent.errors import ConfigurationError
from unitagent.settings.variables import VARIABLES

ANSWERS_WITHIN = 25  # seconds: it makes a token, and gives up after 20
START = "sglang serve --model-path M"


def added(rank: int, size: int = 2) -> str:
    host = "" if rank else " --host 0.0.0.0"
    return f"--nnodes {size} --node-rank {rank} --dist-init-addr 10.0.0.1:40000{host}"


@pytest.mark.parametrize(
    ("rank", "size", "command", "expected"),
    [
        (0, 1, START, START),
        (0, 2, START, f"{START} {added(0)}"),
        (1, 2, START, f"{START} {added(1)}"),
        (0, 4, START, f"{START} {added(0, 4)}"),
        (3, 4, START, f"{START} {added(3, 4)}"),
        (0, 2, f"{START} --host h", f"{START} --host h {added(0)[:-15]}"),
        (
            1,
            2,
            "python3 -m sglang.launch_server --tp 16",
            f"python3 -m sglang.launch_server --tp 16 {added(1)}",
        ),
        (1, 2, "env A=b /opt/bin/sglang serve", f"env A=b /opt/bin/sglang serve {added(1)}"),
        (1, 2, f"{START} --nccl-init-addr h:1", f"{START} --nccl-init-addr h:1 --nnodes 2 --node-rank 1"),
        (1, 2, f"{START} --nnodes=2 --node_rank=1", f"{START} --nnodes=2 --node_rank=1 {added(1)[25:]}"),
    ],
)
def test_place(rank: int, size: int, command: str, expected: str) -> None:
    assert bare("sglang", command, place(rank, size)) == expected


def test_ipv6() -> None:
    made = plan("sglang", START, place(0, 2, "fd00::"))
    assert made.argv[-4:] == ("--dist-init-addr", "[fd00::1]:40000", "--host", "::")
    assert made.health == "http://[::1]:30000/health"


@pytest.mark.parametrize("flags", ["--nnodes 4", "--node-rank=0"])
def test_contradictions(flags: str) -> None:
    with pytest.raises(ConfigurationError):
        line("sglang", f"{START} {flags}", place(1))


def test_health_is_asked_patiently_and_only_at_rank_0() -> None:
    leader, other = (plan("sglang", START, place(rank)) for rank in (0, 1))
    assert leader.health == "http://127.0.0.1:30000/health"
    assert float(VARIABLES["UNIT_HEALTH_TIMEOUT_SECONDS"].default or 0) >= ANSWERS_WITHIN
    assert (leader.traffic_port, other.traffic_port, other.health) == (30000, None, None)


def test_a_rank_other_than_0_makes_nothing_of_a_sigterm() -> None:
    assert [plan("sglang", START, place(rank)).ignores_sigterm for rank in (0, 1)] == [False, True]


def test_metrics_only_where_the_user_switched_them_on() -> None:
    assert plan("sglang", START, place()).metrics_url is None
    made = plan("sglang", f"{START} --enable-metrics --port 9", place())
    assert made.metrics_url == "http://127.0.0.1:9/metrics"
    assert made.running_metrics == ("sglang:num_running_reqs", "sglang:num_queue_reqs")
