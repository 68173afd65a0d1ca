"""Two real agents whose commands are completed differently, or whose engines would negotiate differently."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.acceptance.solo import Solo
from tests.ports import free_port
from tests.waiting import until

DIFFERING = (
    "rank 1: COMMAND, LMDEPLOY_EXECUTOR_BACKEND, NCCL_ALGO, UNIT_FRAMEWORK=auto (rank 0: none), "
    "UNIT_LEASE_SECONDS=6 (rank 0: 5); compare `unitagent env` and `printenv` of rank 1 with those of rank 0"
)


@contextmanager
def unequal(folder: Path, *options: str) -> Iterator[list[Solo]]:
    """The agents of a Unit of 2; rank 1 has two variables, a service file's and a framework more."""
    agents: list[Solo] = []
    file = folder / "service.json"
    env = [{"name": "LMDEPLOY_EXECUTOR_BACKEND", "value": "ray"}, {"name": "NCCL_IB_HCA", "value": "=mlx5_1"}]
    file.write_text(json.dumps({"containers": [{"script": "unused", "env": env}]}))
    more = {
        "NCCL_ALGO": "Ring",
        "NCCL_SOCKET_IFNAME": "lo",
        "UNIT_CONFIG": str(file),
        "UNIT_FRAMEWORK": "auto",
        "UNIT_LEASE_SECONDS": "6",
    }
    port = free_port()
    with ExitStack() as ends:
        for rank, own in enumerate(({}, more)):
            (folder / str(rank)).mkdir()
            place = ["--size", "2", "--rank", str(rank), "--rank-ip", f"127.0.0.{rank + 1}"]
            place += [
                "--http-address",
                f"127.0.0.{rank + 1}:{port}",
                "--master-address",
                "127.0.0.1",
                *options,
            ]
            agents.append(Solo(folder / str(rank), *place, **own))
            ends.callback(agents[-1].close)
        agents[0].port = port
        yield agents


def test_they_start_and_are_told_what_differs(tmp_path: Path) -> None:
    with unequal(tmp_path) as agents:
        agents[0].ready()
        told = [agent.output.read_text() for agent in agents]
        assert sum(text.count(DIFFERING) for text in told) == len(agents), "once by each"


def test_they_are_refused_by_who_is_strict(tmp_path: Path) -> None:
    """The first one to see both leaves; the other may then wait for a better one, and starts nothing."""
    with unequal(tmp_path, "--strict") as agents:
        ended = until(lambda: [agent for agent in agents if agent.popen.poll() is not None], "one is refused")
        assert ended[0].popen.returncode == 77
        assert DIFFERING in ended[0].output.read_text()
        assert not list(tmp_path.glob("*/env.*"))
