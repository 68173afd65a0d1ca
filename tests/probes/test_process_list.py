"""``/processes``: one sample for a crowd, signed as what it is."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.probes.agents import FakeAnswers, ask, say, serving
from tests.probes.loops import in_loop
from unitagent.operator import agent_client
from unitagent.probes.answer_signature import NONCE_HEADER
from unitagent.system.keyring import Keyring

GET = b"GET /processes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
KEYS = Keyring("a secret of the Unit")


@in_loop
async def test_a_crowd_gets_one_sample() -> None:
    answers = FakeAnswers()
    async with serving(answers) as port:
        replies = await asyncio.gather(*(say(port, GET) for _ in range(50)))
        assert {json.loads(reply.rpartition(b"\r\n\r\n")[2])[0]["pid"] for reply in replies} == {42}
        assert answers.samples == 1


@in_loop
async def test_a_sample_that_fails_is_an_internal_error_and_the_agent_goes_on() -> None:
    async def broken() -> list[dict[str, object]]:
        raise RuntimeError("defect")

    answers = FakeAnswers()
    answers.processes = broken  # type: ignore[method-assign]
    async with serving(answers) as port:
        assert (await ask(port, "/processes")).code == 500
        assert (await ask(port, "/livez")).code == 200


@in_loop
async def test_it_is_proven_to_who_knows_the_secret_and_is_no_answer_to_another_question() -> None:
    async with serving(None, KEYS) as port:

        def fetch(keys: Keyring) -> object:
            return agent_client.fetch_processes("u", "127.0.0.1", port, keys)

        assert await asyncio.to_thread(fetch, KEYS) == [{"pid": 42, "name": "sh"}]
        with pytest.raises(agent_client.UnprovenError):
            await asyncio.to_thread(fetch, Keyring("another secret than the Unit's"))
        reply = await ask(port, "/processes", f"{NONCE_HEADER}: {'ab' * 16}")
        proof = agent_client.AnswerProof("u", KEYS)
        proof._nonce = proof._question = "ab" * 16  # as if /status had been asked
        assert not proof.verify_answer(reply.headers, reply.body)
