"""What an agent keeps of its workload's output: whole lines, the last ones, in bounded memory."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitagent.workload import output
from unitagent.workload.output import MOST_BYTES, PAGE_BYTES, OutputLog, OutputStream


def read_all(log: OutputLog, after: int = 0) -> list[tuple[int, bytes]]:
    """All parts of the log, page by page."""
    parts = []
    while True:
        page = log.read_page(after)
        parts += [(part.generation, part.data) for part in page.parts]
        assert page.end - page.begin == sum(len(part.data) for part in page.parts)
        if not page.more:
            return parts
        assert page.end > after
        after = page.end


def kept(log: OutputLog) -> bytes:
    return b"".join(data for _, data in read_all(log))


def write(*pieces: bytes) -> OutputLog:
    log = OutputLog()
    stream = OutputStream(log)
    for piece in pieces:
        stream.feed_bytes(piece)
    stream.end_line()
    return log


def test_a_log_of_nothing_is_empty_and_takes_no_memory() -> None:
    page = OutputLog().read_page(0)
    assert (page.begin, page.end, page.more, page.parts) == (0, 0, False, ())
    assert sys.getsizeof(OutputLog()._data) < 100


def test_the_last_bytes_are_kept_as_whole_lines() -> None:
    log = OutputLog()
    stream = OutputStream(log)
    for number in range(100_000):
        stream.feed_bytes(b"line %d\n" % number)
        assert len(log._data) <= MOST_BYTES
    lines = kept(log).splitlines()
    assert lines == [b"line %d" % number for number in range(100_000 - len(lines), 100_000)]
    assert MOST_BYTES / 2 < len(kept(log)) <= MOST_BYTES
    assert sys.getsizeof(log._data) < 1.3 * MOST_BYTES


def test_one_piece_larger_than_all_that_is_kept() -> None:
    log = write(b"first\n", b"x" * 100 + b"\n" + b"y" * (3 * MOST_BYTES) + b"\nlast\n")
    assert len(log._data) <= MOST_BYTES
    assert kept(log) == b"last\n", "whole lines only"
    assert log.read_page(0).begin + len(kept(log)) == len(b"first\n") + 101 + 3 * MOST_BYTES + len(
        b"\nlast\n"
    )


def test_a_line_longer_than_a_page_is_a_page() -> None:
    long = b"x" * (2 * PAGE_BYTES) + b"\n"
    log = write(b"one\n" + long + b"two\n")
    assert [data for _, data in read_all(log)] == [b"one\n", long, b"two\n"]


def test_the_lines_of_two_streams_never_mix() -> None:
    log = OutputLog()
    out, errors = OutputStream(log), OutputStream(log)
    out.feed_bytes(b"one ")
    errors.feed_bytes(b"two\nthr")
    out.feed_bytes(b"line\n")
    errors.feed_bytes(b"ee\n")
    assert kept(log) == b"two\none line\nthree\n"


@given(st.lists(st.binary(max_size=30)))
def test_the_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).replace(b"\r", b"")
    assert kept(write(*(piece.replace(b"\r", b"") for piece in pieces))) == kept(write(whole))


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ((b"10%\r", b"20%\r", b"100%\r", b"\n"), b"100%\r\n"),
        ((b"a\r\nb", b"\r", b"\n"), b"a\r\nb\r\n"),
        ((b"unfinished",), b"unfinished\n"),
        ((b"z" * 10_000,) * 3, b"z" * 10_000 + b"\n" + b"z" * 10_000 + b"\n" + b"z" * 10_000 + b"\n"),
    ],
    ids=["progress", "crlf", "unfinished", "endless"],
)
def test_unfinished_lines_stay_small(pieces: tuple[bytes, ...], lines: bytes) -> None:
    assert kept(write(*pieces)) == lines


def test_each_generation_has_its_lines_also_in_pages() -> None:
    log = OutputLog()
    stream = OutputStream(log)
    for generation in (1, 2, 3, 7):
        log.begin_generation(generation)
        if generation != 3:  # writes nothing
            stream.feed_bytes(b"of %d\n" % generation * (PAGE_BYTES // 4))
    told = [(generation, set(data.splitlines())) for generation, data in read_all(log)]
    assert {one[0] for one in told} == {1, 2, 7}
    assert all(lines == {b"of %d" % generation} for generation, lines in told)
    assert [one[0] for one in told] == sorted(one[0] for one in told)


def test_where_it_was_read_to_is_where_it_goes_on() -> None:
    log = write(b"one\n")
    end = log.read_page(0).end
    assert log.read_page(end).parts == ()
    log.append_lines(b"two\n")
    assert [part.data for part in log.read_page(end).parts] == [b"two\n"]
    assert log.read_page(10**9).begin == 0, "the mark of another log"
    log.append_lines(b"x\n" * MOST_BYTES)
    missed = log.read_page(end)
    assert missed.begin > end, "what is gone shows in where the page begins"


def test_many_generations_take_no_more_memory() -> None:
    log = OutputLog()
    for generation in range(1000):
        log.begin_generation(generation)
        log.append_lines(b"x\n")
    assert len(log._starts) == output._MOST_STARTS
    assert read_all(log)[-1] == (999, b"x\n")


def test_a_listener_gets_the_whole_lines_of_both_streams_as_they_come() -> None:
    heard: list[bytes] = []
    log = OutputLog()
    one, other = OutputStream(log), OutputStream(log)
    one.feed_bytes(b"before\n")
    log.listener = heard.append
    one.feed_bytes(b"Model loading ")
    other.feed_bytes(b"50%\r100%\nother\n")
    one.feed_bytes(b"took 3 s\nrest")
    one.end_line()
    log.listener = None
    one.feed_bytes(b"after\n")
    assert heard == [b"50%\r100%\nother\n", b"Model loading took 3 s\n", b"rest\n"]
