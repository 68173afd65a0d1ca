"""Stdout goes through unchanged as well, and its reader means to the workload what it would without us."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.process.conftest import Agent
from tests.process.test_stderr import unread
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Agent]


def test_all_goes_through_in_order_to_the_last_byte(start: Start) -> None:
    """The exit comes while most of the output is still in the pipe; the last line has no end."""
    lines = "[print('line', number) for number in range(50000)]"
    script = f"import sys; {lines}; sys.stdout.write('end'); sys.stderr.write('err')"
    agent = start("--relay-stdout", "--", sys.executable, "-c", script)
    out, errors = agent.output()
    assert out == "".join(f"line {number}\n" for number in range(50000)) + "end"
    assert errors == "err"
    assert agent.finish() == 0


def test_a_stuck_reader_does_not_stop_the_agent(start: Start) -> None:
    """Nobody reads our stdout and the workload writes for ever: a signal is still obeyed, and we end."""
    agent = start("--relay-stdout", "--grace", "60", "--", "sh", "-c", "exec yes")
    assert agent.popen.stdout is not None
    pipe = agent.popen.stdout.fileno()
    until(lambda: unread(pipe) >= 60_000, "our stdout is full")
    agent.send(signal.SIGTERM)
    assert agent.finish() == 128 + signal.SIGTERM


def test_a_reader_that_is_gone_ends_the_workload_as_it_would_without_us(start: Start) -> None:
    read_end, write_end = os.pipe()
    agent = start("--relay-stdout", "--", "sh", "-c", "exec yes", stdout=write_end)
    os.close(write_end)
    assert os.read(read_end, 2) == b"y\n"
    os.close(read_end)
    assert agent.finish() == 128 + signal.SIGPIPE
