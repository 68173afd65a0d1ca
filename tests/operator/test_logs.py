"""``unitagent logs`` with agents that are gone, old, rebuilt or somebody else's: one sentence for each."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.probes.agents import FakeAnswers, instance, saying, serving
from tests.probes.loops import in_loop
from unitagent.errors import ConfigurationError
from unitagent.operator.logs_cli import LogPrinter, RankLog, UnreadableError, parse_rank
from unitagent.system.keyring import Keyring

KEYS = Keyring("a secret of this Unit")
NONE = Keyring()


def rank_log(port: int | None, **changes: Any) -> RankLog:
    return RankLog(instance(port=port, **changes))


async def refusal(log: RankLog, keys: Keyring = NONE) -> str:
    with pytest.raises(UnreadableError) as caught:
        await log.read_new_lines("u", keys)
    return f"{caught.value}{caught.value.since}"


def answer(code: str, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code}", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


@in_loop
async def test_each_reason_is_one_sentence() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = await refusal(rank_log(closed.getsockname()[1], lease_seconds=12.3))
        left = await refusal(rank_log(closed.getsockname()[1], lease_seconds=500.0, state="exited"))
    assert gone == "its agent cannot be asked (Connection refused); its last sign of life was 12 s ago"
    assert left == "its agent has ended; its last sign of life was 8 min ago"
    assert await refusal(rank_log(None, incarnation=None)) == "it never joined"
    assert "UNIT_HTTP_ADDRESS=off" in await refusal(rank_log(0))
    assert "older version" in await refusal(rank_log(None))


@pytest.mark.parametrize(
    ("said", "keys", "why"),
    [
        (answer("404 Not Found", "nothing here\n"), NONE, "older version, which keeps no output"),
        (answer("401 Unauthorized"), NONE, "pass the same one to this command (UNIT_SECRET_FILE)"),
        (answer("401 Unauthorized"), KEYS, "something stands between"),
        (answer("403 Forbidden", "no \x1b[2J\n"), NONE, "its agent refuses: no"),
        (answer("200 OK", "{}"), NONE, "in a form this unitagent does not know"),
        (answer("200 OK", "{}"), KEYS, "carries no proof of UNIT_SECRET"),
        (answer("200 OK", "{}", "X-Unitagent-Unit: other"), NONE, "another agent answers there"),
        (answer("200 OK", "{}", "X-Unitagent-Rank: 0"), NONE, "another agent answers there"),
        (b"garbage\r\n\r\n", NONE, "cannot be asked"),
    ],
    ids=["old", "secret", "proxy", "refused", "empty", "unproven", "unit", "rank", "garbage"],
)
@in_loop
async def test_what_is_no_answer(said: bytes, keys: Keyring, why: str) -> None:
    async with saying(said) as port:
        assert why in await refusal(rank_log(port), keys)


@in_loop
async def test_with_the_secret_it_reads_on_from_where_it_was() -> None:
    answers = FakeAnswers(written=b"one\n")
    async with serving(answers, KEYS) as port:
        log = rank_log(port)
        assert await log.read_new_lines("u", KEYS) == [("one", False)]
        answers.written = b"two\n"
        assert await log.read_new_lines("u", KEYS) == [("two", False)]
        assert "another UNIT_SECRET" in await refusal(log, Keyring("the secret of somebody else"))
        assert answers.read_after == [0, 4]
        log.instance["incarnation"] = "xyz"  # as a store remembers it that was set back
        log.challenge = ""
        assert await refusal(log, KEYS) == "another agent answers there"


def page(begin: int, *lines: str, incarnation: str = "abc", more: bool = False, generation: int = 7) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    shown = {
        "streams": ["stderr"],
        "begin": begin,
        "end": begin + len(text),
        "more": more,
        "parts": [{"generation": generation, "lines": lines}] if lines else [],
    }
    return answer("200 OK", json.dumps(shown), f"X-Unitagent-Incarnation: {incarnation}")


@in_loop
async def test_pages_gaps_generations_and_rebuilt_agents_are_told() -> None:
    said = [
        page(0, "a", more=True),
        page(2, "b"),
        page(10, "c", generation=8),
        page(0, "x", incarnation="new", generation=9),  # by chance as long as the old one was
        page(0, "x", "y", incarnation="new", generation=9),
        page(4, incarnation="new"),
    ]
    async with saying(lambda: said.pop(0)) as port:
        log = rank_log(port)
        assert await log.read_new_lines("u", NONE) == [("a", False), ("b", False)]
        assert await log.read_new_lines("u", NONE) == [
            ("6 bytes are missing here: they came too fast", True),
            ("generation 8 begins", True),
            ("c", False),
        ]
        assert await log.read_new_lines("u", NONE) == [
            ("another agent is there now", True),
            ("generation 9 begins", True),
            ("x", False),
            ("y", False),
        ]
        assert await log.read_new_lines("u", NONE) == []


@in_loop
async def test_an_agent_that_never_comes_to_an_end_is_left() -> None:
    """It claims that there is more, and does not go on."""
    async with saying(page(0, more=True)) as port:
        assert await rank_log(port).read_new_lines("u", NONE) == []


@pytest.mark.parametrize("text", ["", "x", "-1", "auto", "²"])
def test_a_rank_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="must be the number of a rank"):
        parse_rank(text)


def test_a_note_is_printed_once_in_a_row_whatever_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    printer, log = LogPrinter(prefixed=True), rank_log(1)
    for note, age in (
        ("it is silent", "; 1 s"),
        ("it is silent", "; 2 s"),
        ("it is back", ""),
        ("it is silent", "; 9 s"),
    ):
        printer.print_note(log, note, age)
    printer.print_line(1, "\x1b[2Jowned")
    told = capsys.readouterr()
    notes = [line.rpartition("): ")[2] for line in told.err.splitlines()]
    assert notes == ["it is silent; 1 s", "it is back", "it is silent; 9 s"]
    assert told.out == "[rank 1] \\x1b[2Jowned\n"
