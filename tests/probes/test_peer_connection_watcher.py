"""Watching peers: a real agent process that is killed, and everything that must not count as its death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.core.large import Large
from tests.ports import free_port
from tests.probes.agents import HOST, FakeAnswers, ask, record, serving
from tests.probes.loops import in_loop, until
from unitagent.core.members import watched_peers
from unitagent.probes import peers
from unitagent.probes.peers import PeerAsker, Peers

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = """
import asyncio
from tests.probes.agents import FakeAnswers, HOST
from unitagent.probes.server import ProbeServer

async def main():
    print(await ProbeServer(FakeAnswers()).start(HOST, 0), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def agent() -> Iterator[tuple[int, int]]:
    """Run a probe address in a process of its own; gives pid and port."""
    with subprocess.Popen([sys.executable, "-c", AGENT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


class Watcher:
    def __init__(self) -> None:
        self.broken: list[tuple[int, str]] = []
        self.peers = Peers(PeerAsker("u", "me"), HOST, 1.0, lambda *peer: self.broken.append(peer))


class Listener:
    """Accepts, and keeps what it has accepted."""

    def __init__(self) -> None:
        self.accepted: list[asyncio.StreamWriter] = []
        self.lost = 0

    async def start(self, port: int = 0) -> asyncio.Server:
        return await asyncio.start_server(self._accept, HOST, port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(writer)
        await asyncio.gather(reader.read(), return_exceptions=True)
        self.lost += 1


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@in_loop
async def test_a_killed_agent_is_noticed_once() -> None:
    watcher = Watcher()
    with agent() as (pid, port):
        watcher.peers.watch_peers([record(port)])
        await until(lambda: _held(port))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: watcher.broken)
    assert watcher.broken == [(1, "abc")]
    watcher.peers.close()


def _held(port: int) -> int:
    """Count the connections of ours to the port that stand."""
    found = psutil.Process().net_connections("tcp")
    return sum(
        bool(each.raddr and each.raddr.port == port and each.status == "ESTABLISHED") for each in found
    )


@in_loop
async def test_naming_the_same_peers_again_changes_nothing() -> None:
    watcher, listener = Watcher(), Listener()
    async with await listener.start() as server:
        for _ in range(5):
            watcher.peers.watch_peers([record(port_of(server)), record(port_of(server), rank=2)])
            await asyncio.sleep(0.02)
        await until(lambda: len(listener.accepted) == 2)
        watcher.peers.watch_peers([record(port_of(server), rank=2), record(port_of(server), rank=3)])
        await until(lambda: (len(listener.accepted), listener.lost) == (3, 1))
        watcher.peers.close()
        await until(lambda: listener.lost == 3)
    assert watcher.broken == []


@in_loop
async def test_a_break_is_told_once_and_not_repaired_until_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_PAUSE", 0.02)
    watcher, listener = Watcher(), Listener()
    async with await listener.start() as server:
        peer = record(port_of(server))
        watcher.peers.watch_peers([peer])
        await until(lambda: listener.accepted)
        listener.accepted[0].transport.abort()
        await until(lambda: watcher.broken)
        await asyncio.sleep(0.1)
        assert (len(listener.accepted), watcher.broken) == (1, [(1, "abc")])
        watcher.peers.watch_peers([peer])
        await until(lambda: len(listener.accepted) == 2)
        watcher.peers.close()


@in_loop
async def test_a_peer_that_cannot_be_reached_yet_is_tried_again_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "MAX_PAUSE", 0.02)
    port = free_port()
    watcher, listener = Watcher(), Listener()
    watcher.peers.watch_peers([record(port)])
    await asyncio.sleep(0.1)
    async with await listener.start(port):
        await until(lambda: listener.accepted)
        watcher.peers.close()
        await until(lambda: listener.lost)
    assert watcher.broken == []


@in_loop
async def test_somebody_who_talks_unasked_is_no_agent() -> None:
    watcher = Watcher()

    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-hello\r\n" * 1000)

    async with await asyncio.start_server(chatter, HOST, 0) as server:
        watcher.peers.watch_peers([record(port_of(server))])
        await until(lambda: watcher.broken)
        watcher.peers.close()


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": 70000}, {"ip": "nobody"}])
@in_loop
async def test_a_record_without_an_address_is_not_watched(changes: dict[str, object]) -> None:
    watcher = Watcher()
    watcher.peers.watch_peers([record(1, **changes)])
    assert len(asyncio.all_tasks()) == 1


@in_loop
async def test_a_watched_agent_answers_probes_and_its_stop_is_noticed() -> None:
    watcher = Watcher()
    async with serving() as port:
        watcher.peers.watch_peers([record(port)])
        await until(lambda: _held(port))
        assert (await ask(port, "/livez")).code == 200
        assert watcher.broken == []
    await until(lambda: watcher.broken)
    watcher.peers.close()


@in_loop
async def test_who_watches_rank_0_of_a_large_unit_is_never_sent_away() -> None:
    watching = [
        state for state in Large(600).agents.values() if any(not one.rank for one in watched_peers(state))
    ]
    watchers = [Watcher() for _ in watching]
    async with serving(FakeAnswers(who=(0, "i0"))) as port:
        for watcher in watchers:
            watcher.peers.watch_peers([record(port, rank=0, incarnation="i0")])
        await until(lambda: _held(port) == len(watchers))
        for _ in range(20):
            assert (await ask(port, "/livez")).code == 200
            await asyncio.sleep(0.05)
        assert _held(port) == len(watchers)
        assert [watcher.broken for watcher in watchers if watcher.broken] == []
        for watcher in watchers:
            watcher.peers.close()
