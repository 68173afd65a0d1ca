"""``/logs``: who may read the output of a workload, and what of it is shown."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.probes.agents import HOST, FakeAnswers, ask, serving
from tests.probes.loops import in_loop
from unitagent.probes import workload_pages
from unitagent.probes.answer_signature import (
    AnswerClaim,
    Question,
    make_logs_question,
    sign_question,
    verify_answer,
)
from unitagent.system.keyring import Keyring

if TYPE_CHECKING:
    from tests.probes.agents import Told

NONCE = "0123456789abcdef" * 2
KEYS = Keyring("a secret of this Unit")
QUERY = "after=0"
OTHER_HOST = "127.0.0.9"  # not the address that the agent is asked at, and of no instance


async def challenge(port: int) -> str:
    told = await ask(port, "/logs")
    assert told.code == 401
    return told.headers["x-unitagent-challenge"]


async def ask_with_proof(
    port: int, given: str, keys: Keyring = KEYS, query: str = QUERY, **named: Any
) -> Told:
    who = {"unit": "u", "rank": 1, "incarnation": "abc", **named}
    asked = make_logs_question(NONCE, QUERY)
    proof = sign_question(keys, Question(asked, given, **who))
    headers = f"X-Unitagent-Nonce: {NONCE}", f"X-Unitagent-Challenge: {given}", f"X-Unitagent-Proof: {proof}"
    return await ask(port, f"/logs?{query}", *headers)


@in_loop
async def test_who_proves_to_know_the_secret_reads_and_gets_a_proof() -> None:
    async with serving(FakeAnswers(written=b"hello\nworld\n"), KEYS) as port:
        told = await ask_with_proof(port, await challenge(port))
    assert told.code == 200
    shown = json.loads(told.body)
    assert shown["parts"] == [{"generation": 7, "lines": ["hello", "world"]}]
    assert (shown["begin"], shown["end"], shown["more"]) == (0, 12, False)
    claim = AnswerClaim(make_logs_question(NONCE, QUERY), "u", 1, "abc", told.body)
    assert verify_answer(KEYS, claim, told.headers["x-unitagent-signature"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"keys": Keyring("another secret of a Unit")}, 403),
        ({"query": "after=5"}, 403),
        ({"incarnation": "xyz"}, 403),
        ({"rank": 2}, 403),
        ({"unit": "v"}, 403),
    ],
    ids=["secret", "query", "incarnation", "rank", "unit"],
)
@in_loop
async def test_a_proof_counts_for_this_question_to_this_agent_alone(
    change: dict[str, Any], code: int
) -> None:
    answers = FakeAnswers(written=b"hello\n")
    async with serving(answers, KEYS) as port:
        told = await ask_with_proof(port, await challenge(port), **change)
    assert told.code == code
    assert "hello" not in told.text
    assert answers.read_after == []


@in_loop
async def test_a_recorded_question_is_worth_nothing_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_pages, "_CHALLENGE_SECONDS", 1.0)
    async with serving(FakeAnswers(written=b"hello\n"), KEYS) as port:
        given = await challenge(port)
        assert (await ask_with_proof(port, given)).code == 200
        while await challenge(port) == given:  # noqa: ASYNC110  # the time is the agent's
            await asyncio.sleep(0.01)
        assert (await ask_with_proof(port, given)).code == 200, "it was given out a moment ago"
        while (told := await ask_with_proof(port, given)).code == 200:  # noqa: ASYNC110  # the same
            await asyncio.sleep(0.01)
        assert (told.code, (await ask_with_proof(port, "")).code) == (401, 401)


@in_loop
async def test_without_a_secret_this_host_and_the_instances_read_and_nobody_else() -> None:
    answers = FakeAnswers(written=b"hello\n")
    answers.shown["instances"][0]["ip"] = "127.0.0.7"
    async with serving(answers) as port:
        assert "hello" in (await ask(port, "/logs")).text
        assert "hello" in (await ask_from("127.0.0.7", port)).decode()
        stranger = await ask_from(OTHER_HOST, port)
        page = await ask(port, "/logs", "Host: evil.example")
    assert stranger.startswith(b"HTTP/1.1 403 ")
    assert b"this host and to the Unit's instances only" in stranger
    assert (b"hello" in stranger, "hello" in page.text) == (False, False)


async def ask_from(source: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port, local_addr=(source, 0))
    writer.write(b"GET /logs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()


@in_loop
async def test_secrets_are_masked_and_no_terminal_is_controlled() -> None:
    written = (
        b"\x1b[31mred\x1b[0m\n--api-key sk-12345\nredis://u:topsecret@h/0\n\x1b]0;title\x07\n"
        b"10%\r20%\r100%\r\n" + b"x" * 5000 + b"\n\xff\n"
    )
    async with serving(FakeAnswers(written=written)) as port:
        (part,) = json.loads((await ask(port, "/logs")).body)["parts"]
    assert part["lines"] == [
        "red",
        "--api-key ***",
        "redis://***@h/0",
        r"\x1b]0;title\x07",
        "100%",
        "x" * 1000,
        "\ufffd",
    ]


@pytest.mark.parametrize("after", ["x", "-1", "1" * 30, "%C2%B2", "1&after=x"])
@in_loop
async def test_a_mark_that_is_none_is_refused(after: str) -> None:
    async with serving() as port:
        told = await ask(port, f"/logs?after={after}")
    assert (told.code, told.text) == (400, f"{workload_pages._BAD_AFTER}\n")


@in_loop
async def test_what_cannot_be_read_hurts_nobody_else() -> None:
    class Broken(FakeAnswers):
        def read_output(self, after: int) -> dict[str, Any]:
            raise RuntimeError("boom")

    async with serving(Broken()) as port:
        told, alive = await ask(port, "/logs"), await ask(port, "/livez")
    assert (told.code, alive.code) == (500, 200)
    assert "boom" not in told.text


@in_loop
async def test_a_crowd_of_readers_delays_itself_and_no_probe() -> None:
    """Each wants the dearest page there is, as often as it can."""
    answers = FakeAnswers(written=b"--api-key sk-12345 http://" * 1200 + b"\n" * 2000)
    async with serving(answers) as port:
        readers = [asyncio.create_task(ask(port, "/logs")) for _ in range(50)]
        await asyncio.sleep(0.1)
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert (await ask(port, "/livez")).code == 200
            slowest = max(slowest, time.monotonic() - began)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    assert slowest < 2
