"""Lines of several ranks in one place: whole, each with its rank, whatever its end is."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.operator.terminals import Terminal
from tests.ports import free_port
from tests.waiting import DEADLINE, until
from unitagent.operator.rank_output import RankLines
from unitagent.operator.terminal import Style, format_rank

PLAIN, TERMINAL = Style(), Style(80, coloured=True)


def lines(style: Style = PLAIN) -> RankLines:
    return RankLines(format_rank(3, style), style)


def test_pieces_of_a_line_are_put_together() -> None:
    rank = lines()
    assert rank.feed_bytes(b"one\ntw", 0.0) == b"[rank 3] one\n"
    assert rank.is_unfinished
    assert rank.feed_bytes(b"o\n\nthree", 0.1) == b"[rank 3] two\n[rank 3] \n"
    assert rank.end_line() == b"[rank 3] three\n"
    assert rank.end_line() == b""


def test_a_line_that_rests_is_shown_and_its_end_is_no_empty_line() -> None:
    rank = lines()
    assert rank.feed_bytes(b"loading ...", 5.0) == b""
    assert rank.end_old_line(5.9) == b""
    assert rank.end_old_line(6.1) == b"[rank 3] loading ...\n"
    assert rank.end_old_line(99.0) == b""
    assert rank.feed_bytes(b"\n\nmore\n", 7.0) == b"[rank 3] \n[rank 3] more\n"


def test_a_line_without_an_end_takes_bounded_memory_and_loses_nothing() -> None:
    rank = lines()
    shown = b"".join(rank.feed_bytes(b"x" * 50_000, 0.0) for _ in range(20)) + rank.end_line()
    assert shown.replace(b"[rank 3] ", b"").replace(b"\n", b"") == b"x" * 1_000_000
    assert max(map(len, shown.splitlines())) < 200_000


def test_what_a_progress_bar_overwrites_is_left_out() -> None:
    rank = lines()
    assert rank.feed_bytes(b"10%\r20%\r", 0.0) == b""
    assert rank.feed_bytes(b"30%\r\n", 0.0) == b"[rank 3] 30%\r\n"


def test_bytes_that_are_no_text_stay() -> None:
    assert lines().feed_bytes(b"\xff\x00\n", 0.0) == b"[rank 3] \xff\x00\n"


def test_colours_of_a_line_end_with_it_on_a_terminal_alone() -> None:
    assert lines(TERMINAL).feed_bytes(b"\x1b[31mred\n", 0.0).endswith(b"red\x1b[0m\n")
    assert lines(Style(80)).feed_bytes(b"\x1b[31mred\n", 0.0) == b"[rank 3] \x1b[31mred\x1b[0m\n"
    assert lines().feed_bytes(b"\x1b[31mred\n", 0.0) == b"[rank 3] \x1b[31mred\n"


def test_neighbours_have_different_colours() -> None:
    assert len({format_rank(rank, TERMINAL).replace(f"rank {rank}", "") for rank in range(10)}) == 10
    assert format_rank(12, PLAIN) == "[rank 12] "


NOISY = (
    'printf "half "; sleep 0.1; echo "line of $RANK_ID"; echo "err of $RANK_ID" >&2; '
    'printf "$RANK_ID has no end"; exec sleep 1000'
)


class Local:
    """A ``unitagent local`` whose output goes elsewhere."""

    def __init__(self, *words: str, stdout: int, stderr: int) -> None:
        options = ("--unit", f"output-{os.getpid()}", "--http-address", f"127.0.0.1:{free_port()}")
        self.popen: subprocess.Popen[bytes] = subprocess.Popen(
            [*UNITAGENT, "local", "--deregister-seconds", "0.1", *options, *words],
            env=clean(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip

    def interrupt(self) -> int:
        self.popen.send_signal(signal.SIGINT)
        return self.popen.wait(DEADLINE)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()
            self.popen.wait(DEADLINE)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "out", tmp_path / "err"


def test_every_line_of_a_real_unit_has_its_rank(files: tuple[Path, Path]) -> None:
    out, err = files
    with out.open("wb") as stdout, err.open("wb") as stderr:
        unit = Local("--size", "3", "--", "sh", "-c", NOISY, stdout=stdout.fileno(), stderr=stderr.fileno())
    try:
        until(lambda: out.read_text().count("has no end\n") == 3, "the line without an end is shown")
        assert sorted(out.read_text().splitlines()) == sorted(
            f"[rank {rank}] {text}"
            for rank in range(3)
            for text in (f"half line of {rank}", f"{rank} has no end")
        )
        assert unit.interrupt() == 0
        page, *others = err.read_text().splitlines()
        assert page.startswith("unitagent: open this Unit in a browser: ")
        assert all(re.match(r"\[rank [012]\] ", line) for line in others)
        assert {f"[rank {rank}] err of {rank}" for rank in range(3)} <= set(others)
        assert sum("exit 0: asked to stop" in line for line in others) == 3, "the last lines are shown, too"
    finally:
        unit.close()


def test_one_instance_needs_no_prefix(files: tuple[Path, Path]) -> None:
    out, err = files
    with out.open("wb") as stdout, err.open("wb") as stderr:
        unit = Local("--size", "1", "--", "sh", "-c", NOISY, stdout=stdout.fileno(), stderr=stderr.fileno())
    try:
        until(lambda: out.read_text() == "half line of 0\n0 has no end", "it is as the workload wrote it")
        assert unit.interrupt() == 0
    finally:
        unit.close()


@pytest.fixture
def piped() -> Iterator[Callable[[str], tuple[Local, int]]]:
    """Start a Unit whose stdout is a pipe, and wait for output; nobody reads it."""
    units: list[Local] = []

    def start(script: str) -> tuple[Local, int]:
        ear, mouth = os.pipe()
        units.append(Local("--size", "2", "--", "sh", "-c", script, stdout=mouth, stderr=subprocess.DEVNULL))
        os.close(mouth)
        until(lambda: select.select((ear,), (), (), 0)[0], "they write")
        return units[-1], ear

    yield start
    for unit in units:
        unit.close()


def test_a_reader_that_is_stuck_delays_no_end(piped: Callable[[str], tuple[Local, int]]) -> None:
    unit, ear = piped("head -c 1000000 /dev/zero; exec sleep 1000")
    assert unit.interrupt() == 0
    os.close(ear)


def test_a_reader_that_is_gone_is_gone_for_the_workloads(piped: Callable[[str], tuple[Local, int]]) -> None:
    unit, ear = piped("while echo goes on; do sleep 0.05; done")
    os.close(ear)
    assert unit.popen.wait(DEADLINE) > 0, "without guard, a workload that ends has failed"


def test_a_terminal_shows_colours_and_sentences() -> None:
    terminal = Terminal(100)
    unit = Local("--size", "2", "--", "sh", "-c", NOISY, stdout=terminal.end, stderr=terminal.end)
    try:
        terminal.wait_for("\x1b[33m[rank 1]\x1b[0m 1 has no end")
        terminal.wait_for("\x1b[36m[rank 0]\x1b[0m 0 has no end")
        assert re.search(r"\[rank 1\]\x1b\[0m \S+Z unitagent\[output-\d+/1 g1\] INFO joined", terminal.text)
        assert unit.interrupt() == 0
    finally:
        unit.close()
        terminal.close()
