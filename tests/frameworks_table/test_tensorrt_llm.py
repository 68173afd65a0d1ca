from __future__ import annotations

import pytest

from tests.frameworks_table.places import bare, line, place, plan
from unitagent.errors import ConfigurationError

START = "trtllm-serve M --tp_size 8 --pp_size 2"
SSH = "-p 2222 -o ConnectionAttempts=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
CARD = "--mca btl_tcp_if_include eth1 --mca oob_tcp_if_include eth1"
MPIRUN = (
    "mpirun --allow-run-as-root --oversubscribe -n 16 -H 10.0.0.1:8,10.0.0.2:8 --mca pml ob1 "
    f"{CARD} --mca plm_rsh_args {SSH} -x HF_HOME -x PATH trtllm-llmapi-launch {START} --host 0.0.0.0"
)


def test_rank_0_starts_the_world() -> None:
    made = plan("tensorrt-llm", START, place(), HF_HOME="/hf", PATH="/bin", RANK_ID="0", HOSTNAME="h")
    assert (" ".join(made.argv), made.env) == (MPIRUN, {})
    assert made.origins.keys() == {"mpirun", "--host"}
    assert SSH in made.argv
    assert (made.health, made.traffic_port) == ("http://127.0.0.1:8000/health", 8000)


def test_the_world_of_four() -> None:
    hosts = ",".join(f"10.0.0.{each}:4" for each in range(1, 5))
    made = bare("tensorrt-llm", f"{START} --host 10.0.0.1", place(0, 4))
    assert f"-n 16 -H {hosts} " in made
    assert made.endswith(f"trtllm-llmapi-launch {START} --host 10.0.0.1")
    assert bare("tensorrt-llm", START, place(3, 4)) == bare("tensorrt-llm", START, place(1))


@pytest.mark.parametrize("rank", [0, 1])
def test_ipv6(rank: int) -> None:
    with pytest.raises(ConfigurationError, match=r"RANK_IP=fd00::1: .* IPv4 address on every rank"):
        plan("tensorrt-llm", START, place(rank, 2, "fd00::"))
    own = f"mpirun {START}"
    assert plan("tensorrt-llm", own, place(0, 2, "fd00::")).argv == tuple(own.split())
    assert line("tensorrt-llm", START, place(0, 1, "fd00::")) == START


@pytest.mark.parametrize("command", [START, f"mpirun -n 16 {START}"])
def test_the_others_wait_for_it(command: str) -> None:
    made = plan("tensorrt-llm", command, place(1))
    assert made.argv[:2] == ("/bin/sh", "-c")
    assert made.argv[2].splitlines()[-1] == "exec /usr/sbin/sshd -D -e -p 2222"
    assert (made.health, made.ignores_sigterm) == (None, False)


@pytest.mark.parametrize("command", [f"mpirun -n 16 {START}", "bash -c mpirun"])
def test_rank_0_with_a_world_of_the_users(command: str) -> None:
    assert line("tensorrt-llm", command, place()) == command


def test_alone() -> None:
    assert line("tensorrt-llm", "trtllm-serve M", place(0, 1)) == "trtllm-serve M"


def test_the_launcher_is_not_doubled() -> None:
    made = line("tensorrt-llm", f"trtllm-llmapi-launch {START}", place())
    assert made.endswith(f"/dev/null trtllm-llmapi-launch {START} --host 0.0.0.0")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("", "--tp_size missing"),
        ("--tensor_parallel_size=3", "3 processes cannot be divided evenly among the 2"),
    ],
)
def test_contradictions(flags: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        line("tensorrt-llm", f"trtllm-serve M {flags}", place())
