"""A reader of the agent's stderr that reads nothing: a log collector that hangs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.ports import free_port
from tests.processes import kill_family
from tests.waiting import DEADLINE, until

PLACE = ["--unit", "stuck", "--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo"]


@contextlib.contextmanager
def agent(stderr: int, *words: str, port: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    words = (*PLACE, "--http-address", f"127.0.0.1:{port or free_port()}", *words)
    with subprocess.Popen(
        [*UNITAGENT, "run", *words], env=clean(), stdin=-3, stdout=-3, stderr=stderr
    ) as run:
        try:
            yield run
        finally:
            kill_family(run)


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    ends = os.pipe()
    yield ends[1]
    for end in ends:
        os.close(end)


def full(pipe: int) -> bool:
    return not select.select((), (pipe,), (), 0)[1]


def serves(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
        return bool(answer.status == 200)
    return False


def test_a_stop_is_followed(unread: int) -> None:
    port = free_port()
    with agent(unread, "--", "sh", "-c", "yes >&2", port=port) as run:
        until(lambda: full(unread) and serves(port), "it runs, and its stderr is full")
        run.send_signal(signal.SIGTERM)
        assert run.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--", "sh", "-c", "exit 3"], 3),
        (["--guard", "--max-restarts", "0", "--", "sh", "-c", "exit 3"], 70),
        (["--", "/no/such/command"], 127),
        (["--redis-url", "redis://127.0.0.1:1", "--store-timeout-seconds", "0.1", "--", "true"], 69),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_it_still_ends_by_itself(words: list[str], code: int, unread: int) -> None:
    """With a stderr that is full before its first line."""
    while not full(unread):
        os.write(unread, b"x" * select.PIPE_BUF)
    with agent(unread, *words) as run:
        assert run.wait(DEADLINE) == code
