"""Starting and stopping: addresses, errors, signals, and what liveness proves."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys

import pytest

from tests.probes.agents import HOST, FakeAnswers, ask, serving
from tests.probes.loops import in_loop
from unitagent.errors import ConfigurationError
from unitagent.probes.server import ProbeServer


@pytest.mark.parametrize("host", ["[::]", "::"])
@in_loop
async def test_the_ipv6_wildcard_takes_ipv4_too(host: str) -> None:
    server = ProbeServer(FakeAnswers())
    port = await server.start(host, 0)
    assert [(await ask(port, "/livez", host=each)).code for each in ("127.0.0.1", "::1")] == [200, 200]
    await server.stop()


@in_loop
async def test_a_port_in_use_names_the_variable() -> None:
    async with serving() as port:
        with pytest.raises(ConfigurationError, match=rf"UNIT_HTTP_ADDRESS=127.0.0.1:{port}: .*in use"):
            await ProbeServer(FakeAnswers()).start(HOST, port)


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("2001:db8::1", 0), ("no..host", 0), (HOST, 70000)]
)
@in_loop
async def test_an_address_that_is_not_ours_names_the_variable(host: str, port: int) -> None:
    with pytest.raises(ConfigurationError, match="UNIT_HTTP_ADDRESS="):
        await ProbeServer(FakeAnswers()).start(host, port)


@in_loop
async def test_stop_cuts_everything_off_and_frees_the_port() -> None:
    server = ProbeServer(FakeAnswers())
    port = await server.start(HOST, 0)
    reader, writer = await asyncio.open_connection(HOST, port)
    assert (await ask(port, "/livez")).code == 200
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)
    assert await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()
    assert await server.start(HOST, port) == port
    await server.stop()
    await server.stop()


@in_loop
async def test_signals_are_left_alone() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving():
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


BLOCKED = """
import asyncio, time
from tests.probes.agents import FakeAnswers, HOST
from unitagent.probes.server import ProbeServer

async def main():
    print(await ProbeServer(FakeAnswers()).start(HOST, 0), flush=True)
    await asyncio.to_thread(input)
    asyncio.get_running_loop().call_soon(time.sleep, 60)
    asyncio.get_running_loop().call_soon_threadsafe(lambda: None)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def _probe(port: int) -> bytes:
    with socket.create_connection((HOST, port), 0.5) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(12)


def _probe_until_it_fails(port: int) -> None:
    while True:
        _probe(port)


def test_a_blocked_loop_is_not_live_and_nothing_is_printed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED], stdin=-1, stdout=-1, stderr=-1, text=True
    ) as agent:
        assert agent.stdin
        assert agent.stdout
        assert agent.stderr
        port = int(agent.stdout.readline())
        assert _probe(port) == b"HTTP/1.1 200"
        print(file=agent.stdin, flush=True)
        with pytest.raises(TimeoutError):
            _probe_until_it_fails(port)
        agent.kill()
        assert agent.stdout.read() + agent.stderr.read() == ""
