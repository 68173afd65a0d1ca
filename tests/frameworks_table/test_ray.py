"""The command lines, and the shell texts really run, with stand-ins for ``ray`` and its package."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks_table.places import PORT, line, place, plan
from unitagent.frameworks.interface import RankContext

HEAD = (
    "--head --node-ip-address=10.0.0.1 --port=40000 --include-dashboard=false --dashboard-host=127.0.0.1 "
    "--dashboard-port=40001 --ray-client-server-port=40002 --disable-usage-stats"
)
RAY = f"""#!{sys.executable}
import os, sys
print("ray", *sys.argv[1:], file=open(os.environ["TRACE"], "a"))
"""
PACKAGE = """
import os
def init(address, **_):
    print("init", address, file=open(os.environ["TRACE"], "a"))
def nodes():
    with open(os.environ["NODES"]) as lines:
        return [{"Alive": line.strip() == "alive"} for line in lines]
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ray").write_text(RAY)
    (tmp_path / "ray").chmod(0o755)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "ray.py").write_text(PACKAGE)
    (tmp_path / "nodes").write_text("alive\ndead\n")
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "package"),
        "TRACE": str(tmp_path / "trace"),
        "NODES": str(tmp_path / "nodes"),
    }


def trace(env: dict[str, str]) -> str:
    path = Path(env["TRACE"])
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("rank", "command", "expected"),
    [
        (0, "python a.py", "ray-head 2 10.0.0.1 40000 10.0.0.1:40000 false python a.py"),
        (0, "bash -c text", "ray-head 2 10.0.0.1 40000 10.0.0.1:40000 false bash -c text"),
        (0, "ray job submit -- a", "ray-head 2 10.0.0.1 40000 10.0.0.1:40000 true ray job submit -- a"),
        (1, "python a.py", "ray-node 10.0.0.1 40000 10.0.0.1:40000 10.0.0.2"),
    ],
)
def test_place(rank: int, command: str, expected: str) -> None:
    assert " ".join(plan("ray", command, place(rank)).argv[3:]) == expected


@pytest.mark.parametrize(
    "command", ["ray start --head --block", "/opt/bin/ray symmetric-run --min-nodes 2 -- a"]
)
def test_a_cluster_of_the_users_is_theirs(command: str) -> None:
    assert line("ray", command, place()) == command


def test_alone() -> None:
    assert line("ray", "python a.py", place(0, 1)) == "python a.py"


def test_a_job_is_sent_to_the_job_server_of_rank_0() -> None:
    server = "RAY_API_SERVER_ADDRESS"
    assert plan("ray", "ray job submit -- a", place()).env[server] == "http://127.0.0.1:40001"
    assert server not in plan("ray", "ray job submit -- a", place(1)).env
    assert server not in plan("ray", "ray job submit -- a", place(), **{server: "http://h:1"}).env


def test_a_node_that_is_told_to_stop_stops() -> None:
    drain = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    assert plan("ray", "python a.py", place(1)).env == {drain: "0"}
    assert plan("ray", "python a.py", place(1), **{drain: "9"}).env == {}
    assert plan("ray", "python a.py", place(1)).required_processes == ("gcs_server", "raylet")


def test_the_head_waits_for_all_that_live_and_then_is_the_command(env: dict[str, str]) -> None:
    program = 'echo "$RAY_ADDRESS" "$0" "$@" $$'
    argv = (*plan("ray", "x", place()).argv[:-1], "sh", "-c", program, "two words", "$HOME", "")
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as head:
        assert head.stderr is not None
        assert head.stderr.readline() == "ray: 1 of 2 nodes are alive\n"
        assert head.poll() is None
        Path(env["NODES"]).write_text("alive\ndead\nalive\n")
        out, _ = head.communicate(timeout=60)
    assert out == f"10.0.0.1:40000 two words $HOME  {head.pid}\n"
    assert trace(env).splitlines() == [
        f"ray start {HEAD}",
        "init 10.0.0.1:40000",
    ]


def test_the_head_ends_when_ray_does_not_start(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ray").write_text("#!/bin/sh\nexit 7\n")
    argv = (*plan("ray", "x", place()).argv[:-1], "echo", "ran")
    ran = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (7, "")


def test_a_node_waits_for_the_head(env: dict[str, str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = listener.getsockname()[1]
        at = RankContext(
            rank=1,
            size=2,
            unit="u",
            generation=1,
            rank_ip="127.0.0.2",
            master_address="127.0.0.1",
            master_port=port,
            rank_ips=("127.0.0.1", "127.0.0.2"),
            ifname="lo",
        )
        with subprocess.Popen(plan("ray", "x", at).argv, env=env) as node:
            with pytest.raises(subprocess.TimeoutExpired):
                node.wait(timeout=1)
            assert trace(env) == ""
            listener.listen()
            assert node.wait(timeout=60) == 0
    assert trace(env) == f"ray start --address=127.0.0.1:{port} --node-ip-address=127.0.0.2 --block\n"


def test_ipv6() -> None:
    argv = plan("ray", "x", place(1, 2, "fd00::")).argv
    assert argv[4:] == ("fd00::1", str(PORT), f"[fd00::1]:{PORT}", "fd00::2")
