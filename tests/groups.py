"""Groups of real servers on loopback: a primary with its replica, sentinels, a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.listening import until
from tests.ports import free_port
from tests.servers import Server, running, start_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 16384


@contextlib.contextmanager
def primary_and_replica(folder: Path) -> Iterator[tuple[Server, Server]]:
    """A primary and its replica, both with the password ``pw``."""
    with running(folder, password="pw") as primary:  # noqa: S106
        follow = ("--replicaof", f"127.0.0.1 {primary.port}", "--masterauth", "pw")
        with running(folder, password="pw", extra=follow) as replica:  # noqa: S106
            asyncio.run(until(lambda: b"master_link_status:up" in replica.command("INFO", "replication")))
            yield primary, replica


@contextlib.contextmanager
def three_sentinels(folder: Path, primary: Server, replica: Server) -> Iterator[list[Server]]:
    """Three sentinels with a password of their own, who know the pair and each other."""
    started: list[Server] = []
    with contextlib.ExitStack() as ends:
        for number in range(3):
            port = free_port()
            config = folder / f"sentinel-{number}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\nrequirepass spw\nsentinel sentinel-pass spw\n"
                f"sentinel monitor main 127.0.0.1 {primary.port} 2\nsentinel auth-pass main pw\n"
                "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
            )
            started.append(Server([primary.argv[0], str(config), "--sentinel"], port, folder, "spw"))
            started[-1].start()
            ends.callback(started[-1].stop)
        asyncio.run(until(lambda: all(_sees_all(sentinel, replica) for sentinel in started)))
        yield started


def _sees_all(sentinel: Server, replica: Server) -> bool:
    known = sentinel.command("SENTINEL", "MASTER", "main")
    replicas = sentinel.command("SENTINEL", "REPLICAS", "main")
    return b"num-other-sentinels\r\n$1\r\n2" in known and str(replica.port).encode() in replicas


def sentinel_url(sentinels: list[Server], service: str = "main", password: str = "spw") -> str:  # noqa: S107
    """The URL of what these sentinels watch."""
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://:pw@{hosts}/{service}?sentinel_password={password}"


@contextlib.contextmanager
def one_sentinel(folder: Path, primary: Server) -> Iterator[Server]:
    """A sentinel that knows only this primary."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary.port} 1\n")
    sentinel = Server([primary.argv[0], str(config), "--sentinel"], port, folder)
    sentinel.start()
    try:
        yield sentinel
    finally:
        sentinel.stop()


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[Server]:
    """A cluster of one."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running(folder, extra=options) as node:
        node.command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        asyncio.run(until(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO")))
        yield node


@contextlib.contextmanager
def three_nodes(folder: Path) -> Iterator[list[Server]]:
    """A cluster of three primaries that share the slots, without replicas."""
    nodes: list[Server] = []
    with contextlib.ExitStack() as ends:
        for number in range(3):
            settings = {"enabled": "yes", "config-file": f"nodes-{number}.conf", "node-timeout": "1000"}
            settings["port"] = str(free_port())
            extra = [word for name, text in settings.items() for word in (f"--cluster-{name}", text)]
            nodes.append(start_redis(folder, extra=extra))
            ends.callback(nodes[-1].stop)
            low, high = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
            assert nodes[-1].command("CLUSTER", "ADDSLOTSRANGE", low, high) == b"+OK\r\n"
        for node in nodes[1:]:
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port, node.argv[-1])
        formed = lambda node: b"cluster_state:ok" in node.command("CLUSTER", "INFO")  # noqa: E731
        asyncio.run(until(lambda: all(map(formed, nodes)), 50))
        yield nodes


@contextlib.contextmanager
def cannot_save(folder: Path) -> Iterator[Server]:
    """A server whose last try to save has failed: a folder is in the place of its file."""
    with running(folder, extra=("--dbfilename", "taken.rdb", "--save", "3600 1")) as server:
        (folder / "taken.rdb").mkdir()
        server.command("BGSAVE")
        failed = b"rdb_last_bgsave_status:err"
        asyncio.run(until(lambda: failed in server.command("INFO", "persistence"), 60))
        yield server
