"""A Unit on a store of several servers: a failover that loses what was acknowledged, a slot that moves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.solo import UNIT, Solo
from tests.groups import primary_and_replica, sentinel_url, three_nodes, three_sentinels
from tests.servers import Server
from tests.waiting import until

pytestmark = pytest.mark.slow


@contextmanager
def two(folder: Path, url: str) -> Iterator[list[Solo]]:
    """The agents of a ready Unit of 2 on this store."""
    agents: list[Solo] = []
    with ExitStack() as ends:
        for rank in range(2):
            (folder / str(rank)).mkdir()
            place = ["--size", "2", "--rank", str(rank), "--backoff-seconds", "0"]
            agents.append(Solo(folder / str(rank), *place, UNIT_REDIS_URL=url))
            ends.callback(agents[-1].close)
        agents[0].ready()
        yield agents


def crash(agents: list[Solo], rank: int) -> None:
    """Kill a workload's main process; returns when the Unit serves again."""
    before = agents[0].status()
    os.kill(before["instances"][rank]["pid"], signal.SIGKILL)
    agents[0].ready(above=before["generation"])


def workloads(agents: list[Solo]) -> list[int]:
    return [instance["pid"] for instance in agents[0].ready()["instances"]]


def all_connected(agents: list[Solo]) -> bool:
    return all(agent.status()["store"]["connected"] for agent in agents)


def test_a_failover_loses_acknowledged_writes(tmp_path: Path) -> None:
    """The replica knows of generation 1 only, when it becomes the primary of a Unit in generation 2."""
    with (
        primary_and_replica(tmp_path) as (primary, replica),
        three_sentinels(tmp_path, primary, replica) as sentinels,
        two(tmp_path, sentinel_url(sentinels)) as agents,
    ):
        replica.command("CONFIG", "SET", "replica-validity-factor", 0)
        replica.pause()
        primary.command("CLIENT", "KILL", "TYPE", "replica")
        crash(agents, rank=1)
        serving = workloads(agents)
        primary.kill()
        replica.resume()
        assert b"generation\r\n$1\r\n1" in board(replica), "nothing was lost"
        until(lambda: b"role:master" in replica.command("INFO", "replication"), "the replica is promoted")
        until(lambda: b"generation\r\n$1\r\n2" in board(replica), "the agents tell the store what it lost")
        until(lambda: all_connected(agents), "all follow the failover")
        assert workloads(agents) == serving, "the failover disturbed the Unit"
        crash(agents, rank=0)
        assert agents[0].status()["generation"] == 3


def test_a_slot_moves(tmp_path: Path) -> None:
    """While its keys are between two nodes of a cluster, and when they are all on the other one."""
    with three_nodes(tmp_path) as nodes, two(tmp_path, cluster_url(nodes)) as agents:
        serving = workloads(agents)
        slot = int(nodes[0].command("CLUSTER", "KEYSLOT", f"{{{UNIT}}}").strip(b":\r\n"))
        owner = next(node for node in nodes if keys(node, slot))
        heir = next(node for node in nodes if node is not owner)
        ids = {node.port: node.command("CLUSTER", "MYID").split(b"\r\n")[1] for node in (owner, heir)}
        heir.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner.port])
        owner.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[heir.port])
        for key in keys(owner, slot):
            owner.command("MIGRATE", "127.0.0.1", heir.port, key, 0, 5000)
        until(lambda: not all_connected(agents), "the agents notice that their keys are gone")
        for node in (heir, owner):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[heir.port])
        until(lambda: all_connected(agents), "the agents follow their keys")
        assert workloads(agents) == serving, "the move disturbed the Unit"
        crash(agents, rank=1)
        assert keys(heir, slot)
        assert agents[0].status()["generation"] == 2


def cluster_url(nodes: list[Server]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def keys(node: Server, slot: int) -> list[bytes]:
    """The keys of a slot that a node has."""
    answer = node.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
    return answer.split(b"\r\n")[2::2]


def board(server: Server) -> bytes:
    return server.command("HGETALL", f"unitagent:{{{UNIT}}}:board")
