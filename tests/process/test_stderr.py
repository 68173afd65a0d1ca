"""Stderr goes through unchanged, its tail is kept, and a stuck reader never stops the agent."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.process.conftest import Agent, program
from tests.waiting import until
from unitagent.workload.output import OutputRelay, Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Agent]


def lines(*pieces: bytes) -> list[str]:
    tail = Tail()
    for piece in pieces:
        tail.feed_bytes(piece)
    return tail.read_lines()


def test_the_last_twenty_lines() -> None:
    text = b"".join(b"%d\n" % number for number in range(50))
    assert lines(text) == [str(number) for number in range(30, 50)]


def test_an_unfinished_line_counts() -> None:
    assert lines(b"one\ntw", b"o") == ["one", "two"]


@given(st.lists(st.binary(max_size=30)))
def test_the_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).replace(b"\r", b"")
    assert lines(*(piece.replace(b"\r", b"") for piece in pieces)) == lines(whole)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[31mred\x1b[0m\n", "red"),
        (b"\x1b]0;title\x07beep\n", r"\x1b]0;title\x07beep"),
        (b"10%\r20%\r100%\r\n", "100%"),
        (b"a\tb\n", "a\tb"),
        (b"gr\xc3\xbc\xc3\x9fe \xff\n", "grüße \ufffd"),
        (b"\xc2\x9b31m\n", r"\x9b31m"),  # a control sequence introducer as one character
        (b"x" * 5000 + b"\n", "x" * 1000),
    ],
)
def test_a_line_is_made_fit_to_show(raw: bytes, shown: str) -> None:
    assert lines(raw) == [shown]


def test_memory_is_bounded_without_any_line_end() -> None:
    tail = Tail()
    for _ in range(100):
        tail.feed_bytes(b"y" * 65536)
    assert tail.read_lines() == ["y" * 1000]


def test_all_goes_through_and_the_tail_is_complete(start: Start) -> None:
    """The exit comes while most of the output is still in the pipe."""
    agent = start("--", *program("lines.py"), "20000")
    text = agent.output()[1]
    assert agent.finish() == 3
    assert text == "".join(f"line {number}\n" for number in range(20000))
    assert agent.event("exit")["tail"] == [f"line {number}" for number in range(19980, 20000)]


def test_the_tail_has_what_is_still_in_the_pipe() -> None:
    async def scene() -> list[str]:
        stderr = OutputRelay(os.open(os.devnull, os.O_WRONLY))
        source = stderr.open_pipe()
        os.write(source, b"last words\n")
        os.close(source)
        return stderr.read_tail()  # the loop has had no turn yet

    assert asyncio.run(scene()) == ["last words"]


def test_an_inherited_stderr_has_no_tail(start: Start) -> None:
    agent = start("--inherit-stderr", "--", *program("lines.py"), "2")
    assert agent.output()[1] == "line 0\nline 1\n"
    assert agent.event("exit")["tail"] == []


def unread(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_stuck_reader_does_not_stop_the_agent(start: Start) -> None:
    """Nobody reads our stderr and the workload writes for ever: a signal is still obeyed, and we end."""
    agent = start("--grace", "60", "--", "sh", "-c", "echo ready; exec yes >&2")
    agent.says("ready")
    assert agent.popen.stderr is not None
    pipe = agent.popen.stderr.fileno()
    capacity = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    until(lambda: unread(pipe) >= capacity - 4096, "our stderr is full")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM
    assert agent.event("exit")["tail"] == ["y"] * 20


def test_a_dead_reader_does_not_end_the_workload(start: Start) -> None:
    read_end, write_end = os.pipe()
    agent = start(
        "--",
        "sh",
        "-c",
        "echo ready; read line; echo gone >&2; echo more >&2; exit 7",
        stdin=-1,
        stderr=write_end,
    )
    os.close(write_end)
    agent.says("ready")
    os.close(read_end)
    assert agent.popen.stdin is not None
    agent.popen.stdin.write(b"go\n")
    agent.popen.stdin.flush()
    assert agent.finish() == 7
    assert agent.event("exit")["tail"] == ["gone", "more"]


def test_what_is_held_is_bounded_and_goes_on_when_the_reader_does() -> None:
    async def scene() -> tuple[int, bytes]:
        sink_read, sink_write = os.pipe()
        stderr = OutputRelay(sink_write)
        source = stderr.open_pipe()
        os.set_blocking(source, False)
        sent = 0
        until = time.monotonic() + 30
        quiet = 0
        while quiet < 20 and time.monotonic() < until:  # until nothing more is taken
            try:
                sent += os.write(source, b"z" * 4096)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                await asyncio.sleep(0.01)
        os.close(source)
        received = b""
        while len(received) < sent:
            received += await asyncio.to_thread(os.read, sink_read, 65536)
        await stderr.flush(30)
        stderr.close()
        return sent, received

    sent, received = asyncio.run(scene())
    assert received == b"z" * sent
    assert sent < 1_000_000
