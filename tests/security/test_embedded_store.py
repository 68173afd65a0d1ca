"""Who has the embedded store's password can write to it; he can neither hang it nor swell it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo
from tests.waiting import until
from unitagent.system import procfs


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Solo]:
    one = Solo(tmp_path)
    yield one
    one.close()


def said(port: int, *words: str) -> bytes:
    """What the server answers to one command."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"*{len(words)}\r\n".encode())
        client.sendall("".join(f"${len(word)}\r\n{word}\r\n" for word in words).encode())
        return client.recv(4096)


@pytest.mark.parametrize(
    "words",
    [
        ("EVAL", "while true do end", "0"),
        ("EVAL_RO", "while true do end", "0"),
        ("SCRIPT", "LOAD", "while true do end"),
        ("SCRIPT", "FLUSH"),
        ("FUNCTION", "LOAD", "#!lua name=x"),
        ("DEBUG", "SLEEP", "100"),
        ("INFO",),
    ],
)
def test_nobody_brings_a_script_of_his_own(solo: Solo, words: tuple[str, ...]) -> None:
    solo.ready()
    assert said(solo.port + 1, *words).startswith((b"-NOPERM", b"-ERR"))


def server_of(solo: Solo) -> int:
    found = [
        one.pid
        for one in procfs.select_descendants(procfs.read_process_table(), solo.popen.pid)
        if "server" in one.name
    ]
    return found[0] if found else 0


@pytest.mark.slow
def test_a_store_that_hangs_is_killed_and_brought_back(solo: Solo) -> None:
    generation = solo.ready()["generation"]
    hanging = server_of(solo)
    os.kill(hanging, signal.SIGSTOP)
    until(lambda: server_of(solo) not in {0, hanging}, "another server runs")
    until(lambda: solo.status()["store"]["connected"], "the agent is in touch again")
    assert b"+PONG" in said(solo.port + 1, "PING")
    assert solo.status()["generation"] == generation


def test_a_server_takes_no_more_than_its_space(solo: Solo) -> None:
    solo.ready()
    about = Path(f"/proc/{server_of(solo)}")
    limit = next(line for line in (about / "limits").read_text().splitlines() if "address space" in line)
    taken = int((about / "statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    assert taken < int(limit.split()[3]) <= 1 << 30
