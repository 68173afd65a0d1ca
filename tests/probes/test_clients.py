"""Clients that break the rules: none of them harms the agent or keeps a probe from its answer."""

from __future__ import annotations

import asyncio
import gc
import os

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.probes.agents import HOST, FakeAnswers, ask, say, serving, status
from tests.probes.loops import in_loop, until
from unitagent.core.probe_answers import ProbeAnswer
from unitagent.core.probe_paths import Probe
from unitagent.probes import connections
from unitagent.probes.admission import LIMIT

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",  # no Host
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS
        b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 70_000,
        b"GET /" + b"x" * 70_000,
    ],
)
@in_loop
async def test_malformed_and_huge_headers_are_400(data: bytes) -> None:
    async with serving() as port:
        assert (await say(port, data)).startswith(b"HTTP/1.1 400 ")
        assert (await ask(port, "/livez")).code == 200


@pytest.mark.parametrize(
    ("code", "line"), [(200, b"up ready\n"), (404, b"drain\n"), (503, b"down\n"), (500, b"down\n")]
)
@in_loop
async def test_the_line_of_an_agent_check_is_answered(code: int, line: bytes) -> None:
    async with serving(FakeAnswers({"traffic": ProbeAnswer(code, ())})) as port:
        assert await say(port, b"traffic\n") == line


@in_loop
async def test_an_agent_check_may_follow_requests() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(GET)
        await reader.readuntil(b"ok\n")
        writer.write(b"traffic\n")
        assert await reader.read() == b"up ready\n"
        writer.close()


@pytest.mark.parametrize(
    "words", [b"traffic\n\n", b"traffic \n\n", b"Traffic\r\n\r\n", b"traffic\ntraffic\n\n"]
)
@in_loop
async def test_what_only_begins_like_an_agent_check_is_400(words: bytes) -> None:
    async with serving() as port:
        assert (await say(port, words)).startswith(b"HTTP/1.1 400 ")


@in_loop
async def test_an_agent_check_within_a_header_is_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(GET + b"GET /livez HT")
        await reader.readuntil(b"ok\n")
        writer.write(b"traffic\n")
        assert b"up ready" not in await reader.read()
        writer.close()


@pytest.mark.parametrize(
    "header", ["Content-Length: 5", "Content-Length: 99999999999", "Transfer-Encoding: chunked"]
)
@in_loop
async def test_bodies_are_refused(header: str) -> None:
    async with serving() as port:
        told = await ask(port, "/livez", header)
        assert (told.code, told.headers["connection"]) == (413, "close")


@in_loop
async def test_garbage_after_a_refused_body_is_ignored() -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"
    async with serving() as port:
        await say(port, head + b"x" * 1_000_000)
        assert (await ask(port, "/livez")).code == 200


@in_loop
async def test_a_broken_body_behind_a_head_is_no_error_of_ours() -> None:
    async with serving() as port:
        await say(port, b"HEAD /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n")
        assert (await ask(port, "/livez")).code == 200


@in_loop
async def test_an_upgrade_is_not_made() -> None:
    async with serving() as port:
        told = await ask(port, "/livez", "Upgrade: websocket", "Connection: upgrade")
    assert told.code == 200


@in_loop
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as port:
        replies = await say(port, GET * 50 + GET.replace(b"/livez", b"/none") + LAST)
    assert [part[:3] for part in replies.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 50 + [b"404", b"200"]


@in_loop
async def test_a_request_in_single_bytes_is_answered() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        for byte in LAST:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(
    "begun", [b"GET /livez HT", GET + b"G", GET * 3 + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX:"]
)
@in_loop
async def test_a_header_that_never_ends_is_cut_off(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    async with serving() as port:
        replies = await say(port, begun)  # returns because the server closes
    assert replies.count(b"HTTP/1.1 200 ") == begun.count(b"\r\n\r\n")


@in_loop
async def test_a_trickled_header_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        writer.close()
        await asyncio.gather(ended, return_exceptions=True)


@in_loop
async def test_a_client_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEADLINE", 0.3)
    big = FakeAnswers(shown=status(unit="x" * 1_000_000))
    async with serving(big) as port:
        _, writer = await asyncio.open_connection(HOST, port, limit=1024)
        writer.write(GET.replace(b"/livez", b"/status") * 100)
        before = _sockets(port)
        assert before >= 1
        await until(lambda: _sockets(port) < before)
        assert (await ask(port, "/livez")).code == 200
        writer.close()


@in_loop
async def test_a_silent_connection_may_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEADLINE", 0.05)
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        await asyncio.sleep(0.3)
        writer.write(LAST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@in_loop
async def test_a_thousand_idle_connections_leave_room_for_probes() -> None:
    async with serving() as port:
        neighbour = await asyncio.open_connection(HOST, port, local_addr=("127.0.0.2", 0))
        idle = [await asyncio.open_connection(HOST, port) for _ in range(1000)]
        for _ in range(5):
            assert (await ask(port, "/readyz")).code == 200
        await until(lambda: _sockets(port) <= LIMIT)
        neighbour[1].write(LAST)  # the address that holds one connection has kept it
        assert (await neighbour[0].read()).startswith(b"HTTP/1.1 200 ")
        for _, writer in [*idle, neighbour]:
            writer.close()


class Counting(FakeAnswers):
    count = 0

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        self.count += 1
        return super().answer_probe(probe)


@in_loop
async def test_the_loop_has_its_turn_after_each_answer_to_a_crowd() -> None:
    answers = Counting()
    async with serving(answers) as port:
        clients = [await asyncio.open_connection(HOST, port) for _ in range(100)]
        for _, writer in clients:
            writer.write(GET * 5)
        while answers.count < 500:
            before = answers.count
            await asyncio.sleep(0)
            assert answers.count - before <= 1
        for _, writer in clients:
            writer.close()


@in_loop
async def test_connections_come_and_go_without_a_trace() -> None:
    async with serving() as port:
        await _crowd(port)
        gc.collect()
        before = psutil.Process().memory_info().rss
        for _ in range(4):
            await _crowd(port)
        gc.collect()
        await until(lambda: _sockets(port) == 0)
        assert psutil.Process().memory_info().rss - before < 8 << 20


async def _crowd(port: int) -> None:
    clients = [await asyncio.open_connection(HOST, port) for _ in range(300)]
    for _, writer in clients:
        writer.write(GET + b"GET /r")
    for reader, writer in clients:
        await reader.readuntil(b"ok\n")
        writer.transport.abort()


def _sockets(port: int) -> int:
    """Count this process's server ends of connections to the port."""
    mine = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in mine if each.laddr)


@settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.lists(
        st.sampled_from(
            [GET, b"GET ", b"\r\n", b"\r\n\r\n", b"\0", b"traffic\n", b"Host: u", b": ", b"HEAD /status"]
        )
        | st.binary(max_size=40)
    )
)
def test_any_bytes_do_no_harm(parts: list[bytes]) -> None:
    @in_loop
    async def talk() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"".join(parts))
            writer.write_eof()
            await asyncio.gather(reader.read(), return_exceptions=True)
            writer.close()
            assert (await ask(port, "/livez")).code == 200

    talk()
