"""A request that costs an agent as much as a dozen others is refused before anybody looks at it closely."""

from __future__ import annotations

import h11
import pytest

from tests.probes.agents import ask, say, serving
from tests.probes.loops import in_loop

GET, HOST = b"GET /livez HTTP/1.1\r\n", b"Host: localhost\r\nConnection: close\r\n"
FOLDED = b"A: b\r\n" + b" c\r\n" * 3000


@pytest.mark.parametrize("head", [b"a:\r\n" * 4000, b"a:b\n" * 3000, FOLDED, b"A: b\r\n" * 127])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
@in_loop
async def test_a_head_of_too_many_lines_is_refused_unread(
    head: bytes, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    right = h11.Connection.next_event

    def next_event(self: h11.Connection) -> object:
        if self.our_role is h11.SERVER and (said := self.trailing_data[0].count(b"\n")) > 128:
            read.append(said)
        return right(self)

    monkeypatch.setattr(h11.Connection, "next_event", next_event)
    async with serving() as port:
        for _ in range(2):
            told = await say(port, GET + HOST + head + end)
            assert told.startswith(b"HTTP/1.1 431 ")
            assert told.endswith(b"\r\n\r\na request has at most 128 lines here\n")
        assert (await ask(port, "/livez")).code == 200
    assert not read


@pytest.mark.parametrize("begin", [b"", GET + b"Host: localhost\r\n" + b"A: b\r\n" * 50 + b"\r\n"])
@in_loop
async def test_requests_of_many_lines_are_answered_one_after_the_other(begin: bytes) -> None:
    async with serving() as port:
        told = await say(port, 3 * begin + GET + HOST + b"A: b\r\n" * 100 + b"\r\n")
    assert told.count(b"HTTP/1.1 200 ") == (4 if begin else 1)
