from __future__ import annotations

import pytest

from tests.frameworks_table.places import bare, line, place, plan
from unitagent.errors import ConfigurationError

NATIVE_0 = "--nnodes 2 --node-rank 0 --master-addr 10.0.0.1 --master-port 40000"
NATIVE_1 = "--nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 40000 --headless"
LOCAL = "--data-parallel-address 10.0.0.1 --data-parallel-rpc-port 40001 --data-parallel-size-local"


@pytest.mark.parametrize(
    ("rank", "size", "command", "expected"),
    [
        (0, 1, "vllm serve M", "vllm serve M"),
        (0, 2, "vllm serve M -tp 16", f"vllm serve M -tp 16 {NATIVE_0}"),
        (1, 2, "vllm serve M -tp 16", f"vllm serve M -tp 16 {NATIVE_1}"),
        (
            3,
            4,
            "vllm serve M",
            "vllm serve M " + NATIVE_1.replace("nodes 2", "nodes 4").replace("k 1", "k 3"),
        ),
        (1, 2, "/opt/venv/bin/vllm serve M", f"/opt/venv/bin/vllm serve M {NATIVE_1}"),
        (1, 2, "env X=1 vllm serve M", f"env X=1 vllm serve M {NATIVE_1}"),
        (
            1,
            2,
            "python -m vllm.entrypoints.cli.main serve M",
            f"python -m vllm.entrypoints.cli.main serve M {NATIVE_1}",
        ),
        (
            0,
            2,
            "python -m vllm.entrypoints.openai.api_server --model M",
            f"python -m vllm.entrypoints.openai.api_server --model M {NATIVE_0}",
        ),
        (  # that module has no headless mode, "serve" has
            1,
            2,
            "python -m vllm.entrypoints.openai.api_server --model M",
            f"python -m vllm.entrypoints.cli.main serve --model M {NATIVE_1}",
        ),
        (
            1,
            2,
            "vllm serve M --nnodes=2 -r 1 --master_addr=h --master-port 1 --headless",
            "vllm serve M --nnodes=2 -r 1 --master_addr=h --master-port 1 --headless",
        ),
        (1, 2, "vllm serve M -n2", f"vllm serve M -n2 {NATIVE_1.removeprefix('--nnodes 2 ')}"),
        (1, 2, "vllm serve --port 1 -- M", f"vllm serve --port 1 {NATIVE_1} -- M"),
        (1, 2, "my-wrapper M --port 1", f"my-wrapper M --port 1 {NATIVE_1}"),
        (  # a headless rank may have no API servers, and the last flag counts
            1,
            2,
            "vllm serve M --api-server-count 4",
            f"vllm serve M --api-server-count 4 {NATIVE_1} --api-server-count 0",
        ),
        (0, 2, "vllm serve M --api-server-count 4", f"vllm serve M --api-server-count 4 {NATIVE_0}"),
    ],
)
def test_native(rank: int, size: int, command: str, expected: str) -> None:
    assert bare("vllm", command, place(rank, size)) == expected


@pytest.mark.parametrize(
    ("rank", "flags", "added"),
    [
        (0, "-dp 4", f"{LOCAL} 2"),
        (1, "-dp 4", f"{LOCAL} 2 --data-parallel-start-rank 2 --headless"),
        (1, "--data-parallel-size=2", f"{LOCAL} 1 --data-parallel-start-rank 1 --headless"),
        (1, "-dp 4 -dpl 2 -dpa h -dpp 1", "--data-parallel-start-rank 2 --headless"),
        (1, "-dp 4 -dpa h -dpp 1 -dpr 2 --headless", "--data-parallel-size-local 2"),
        (0, "-dp 4 --data-parallel-hybrid-lb", f"{LOCAL} 2 --data-parallel-start-rank 0"),
        (1, "-dp 4 -dph", f"{LOCAL} 2 --data-parallel-start-rank 2"),
        (1, "-dp 4 --data-parallel-multi-port-external-lb", f"{LOCAL} 2 --data-parallel-start-rank 2"),
        (
            1,
            "-dp 2 --data-parallel-external-lb",
            "--data-parallel-address 10.0.0.1 --data-parallel-rpc-port 40001 --data-parallel-rank 1",
        ),
        (1, "-dp 2 -dpn 1", "--data-parallel-address 10.0.0.1 --data-parallel-rpc-port 40001"),
        (1, "-dp 1", NATIVE_1),
        (  # the user chose the native flags: vLLM infers the rest
            1,
            "-dp 4 --nnodes 2",
            "--data-parallel-address 10.0.0.1 --data-parallel-rpc-port 40001 "
            + NATIVE_1.removeprefix("--nnodes 2 "),
        ),
    ],
)
def test_data_parallel(rank: int, flags: str, added: str) -> None:
    assert bare("vllm", f"vllm serve M {flags}", place(rank)) == f"vllm serve M {flags} {added}"


@pytest.mark.parametrize(("rank", "headless"), [(0, False), (1, True), (2, True), (3, True)])
def test_replicas_larger_than_a_rank_are_native(rank: int, headless: bool) -> None:
    argv = plan("vllm", "vllm serve M -tp 16 -dp 2", place(rank, 4)).argv
    assert "--nnodes" in argv
    assert "--data-parallel-size-local" not in argv
    assert ("--headless" in argv) == headless


@pytest.mark.parametrize(("rank", "headless"), [(0, False), (1, True), (2, False), (3, True)])
def test_each_large_replica_has_a_server_behind_an_external_balancer(rank: int, headless: bool) -> None:
    argv = plan("vllm", "vllm serve M -tp 16 -dp 2 --data-parallel-external-lb", place(rank, 4)).argv
    assert ("--headless" in argv) == headless


@pytest.mark.parametrize(
    ("rank", "flags", "problem"),
    [
        (0, "--node-rank 1", "--node-rank 1: this instance has rank 0"),
        (0, "--headless", "--headless: rank 0 must take requests"),
        (1, "--no-headless", "--no-headless: requests go to rank 0, not to rank 1"),
        (0, "-dp 3", "--data-parallel-size 3: a Unit of 2 instances"),
        (0, "-dp 2 -dpl 1 --data-parallel-start-rank 0", "omit it, since each rank gets its own, or use"),
        (
            0,
            "-dp 4 -dpr=0",
            "--data-parallel-start-rank: at rank 0 vLLM takes it, whatever its value, as hybrid",
        ),
        (1, "-dp 2 -dpl 1 --data-parallel-start-rank=1", "use --data-parallel-hybrid-lb"),
        (
            0,
            "-dp 2 -dpl 1 --nnodes 2 -dpr 0",
            "--data-parallel-start-rank: at rank 0 vLLM takes it, whatever its value",
        ),
        (1, "-dp 4 -dph -dpr 0", "--data-parallel-start-rank 0: the replicas of rank 1 are counted from 2"),
        (0, "-dp 4 -dpl 1", "--data-parallel-size-local 1: each of 2 instances runs 2"),
        (
            1,
            "-dp 4 -dpr 0",
            "--data-parallel-start-rank: at rank 0 vLLM takes it, whatever its value, as hybrid",
        ),
        (1, "-dp 4 --data-parallel-external-lb", "--data-parallel-size 4: with an external load balancer"),
        (1, "-dp 2 --data-parallel-rank 0", "--data-parallel-rank 0: this instance has rank 1"),
        (
            0,
            "--distributed-executor-backend ray --nnodes 2",
            "--nnodes 2: vLLM does not accept this flag with Ray",
        ),
    ],
)
def test_contradictions(rank: int, flags: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        line("vllm", f"vllm serve M {flags}", place(rank))


@pytest.mark.parametrize(
    ("rank", "version", "shutdown_timeout", "flags", "added"),
    [
        (0, "0.18.0", 2, "", " --shutdown-timeout 2"),
        (0, "0.33.0+cpu", 9, " -dp 2", " --shutdown-timeout 9"),
        (0, "1.0.0rc1", 2, "", " --shutdown-timeout 2"),
        (0, "0.33.0", 2, " --shutdown-timeout 60", ""),
        (0, "0.33.0", 0, "", ""),
        (1, "0.33.0", 2, "", ""),
        (0, "0.17.9", 2, "", ""),
        (0, "0.1.dev5+g123", 2, "", ""),
        (0, "", 2, "", ""),
    ],
)
def test_requests_in_flight_may_finish(
    rank: int, version: str, shutdown_timeout: int, flags: str, added: str
) -> None:
    command = f"vllm serve M{flags}"
    made = line("vllm", command, place(rank, version=version, shutdown_timeout=shutdown_timeout))
    assert made == line("vllm", command, place(rank)) + added
    if "-dp" not in flags:
        on_ray = f"{command} --distributed-executor-backend ray"
        made = line("vllm", on_ray, place(rank, version=version, shutdown_timeout=shutdown_timeout))
        assert made == line("vllm", on_ray, place(rank)) + added


@pytest.mark.parametrize("flags", ["--distributed-executor-backend ray", "-dp 4 -dpb=ray"])
def test_ray(flags: str) -> None:
    head = plan("vllm", f"vllm serve M {flags}", place(0))
    node = plan("vllm", f"vllm serve M {flags}", place(1))
    assert head.argv[:2] == node.argv[:2] == ("/bin/sh", "-c")
    assert " ".join(head.argv[3:]) == f"ray-head 2 10.0.0.1 40000 10.0.0.1:40000 false vllm serve M {flags}"
    assert node.argv[3:] == ("ray-node", "10.0.0.1", "40000", "10.0.0.1:40000", "10.0.0.2")
    assert (head.health, node.health) == ("http://127.0.0.1:8000/health", None)
    assert (head.traffic_port, node.traffic_port) == (8000, None)


@pytest.mark.parametrize(
    ("flags", "port", "health"),
    [
        ("", 8000, "http://127.0.0.1:8000/health"),
        ("--port 81", 81, "http://127.0.0.1:81/health"),
        ("--port=81 --host 0.0.0.0", 81, "http://127.0.0.1:81/health"),
        ("--host 10.0.0.1", 8000, "http://10.0.0.1:8000/health"),
        ("--host ::", 8000, "http://[::1]:8000/health"),
        ("--host fd00::1", 8000, "http://[fd00::1]:8000/health"),
        ("--ssl-certfile c --ssl-keyfile k", 8000, "tcp://127.0.0.1:8000"),
        ("--uds /run/s", None, None),
        ("--port nonsense", None, None),
    ],
)
def test_where_it_serves(flags: str, port: int | None, health: str | None) -> None:
    for size in (1, 2):
        made = plan("vllm", f"vllm serve M {flags}", place(0, size))
        assert (made.traffic_port, made.health) == (port, health)
    other = plan("vllm", f"vllm serve M {flags}", place(1))
    assert (other.traffic_port, other.health, other.metrics_url) == (None, None, None)


def test_metrics() -> None:
    made = plan("vllm", "vllm serve M", place())
    assert made.metrics_url == "http://127.0.0.1:8000/metrics"
    assert made.running_metrics == ("vllm:num_requests_running", "vllm:num_requests_waiting")
    assert made.progress_metric == "vllm:iteration_tokens_total_count"
    silent = plan("vllm", "vllm serve M --disable-log-stats", place())
    assert (silent.metrics_url, silent.running_metrics, silent.progress_metric) == (None, (), None)


def test_every_rank_takes_requests_behind_a_balancer_of_the_users() -> None:
    made = plan("vllm", "vllm serve M -dp 4 -dph", place(1))
    assert (made.traffic_port, made.health) == (8000, None)


def test_every_flag_that_was_added_says_why() -> None:
    made = plan("vllm", "vllm serve M -dp 4 --api-server-count 2", place(1))
    added = [word for word in made.argv[5:] if word.startswith("--")]
    assert added[1:] == list(made.origins)
    assert all(why.endswith(".") and why[0].isupper() for why in made.origins.values())


def test_ipv6() -> None:
    assert "--master-addr fd00::1 " in line("vllm", "vllm serve M", place(1, 2, "fd00::"))


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (0, 2), (1, 2)])
def test_it_cannot_do_without_its_workers_and_its_engine(rank: int, size: int) -> None:
    vital = plan("vllm", "vllm serve M", place(rank, size)).required_processes
    assert "VLLM::Worker_TP0"[:15].startswith(vital)
    assert "VLLM::EngineCore"[:15].startswith(vital)
    assert not "VLLM::APIServer".startswith(vital)
