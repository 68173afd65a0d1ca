"""``/processes`` and ``/metrics``: one sample for a crowd, which never takes much of a core."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.probes.agents import FakeAnswers, ask, say, serving
from tests.probes.loops import in_loop
from unitagent.core.probe_paths import PROBES_BY_PATH
from unitagent.operator import agent_client
from unitagent.probes.answer_signature import NONCE_HEADER
from unitagent.probes.process_sampler import ProcessSampler
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
    answers.list_processes = broken  # type: ignore[method-assign]
    async with serving(answers) as port:
        assert (await ask(port, "/processes")).code == 500
        scrape = await ask(port, "/metrics")
        assert (scrape.code, scrape.body) == (200, b"")
        assert (await ask(port, "/livez")).code == 200


@in_loop
async def test_a_sample_that_takes_too_long_is_left_out_of_the_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unitagent.probes.server._SAMPLE_TIMEOUT", 0.1)
    finish = asyncio.Event()

    async def stuck() -> list[dict[str, object]]:
        await finish.wait()
        return [{"pid": 1}, {"pid": 2}]

    answers = FakeAnswers()
    answers.list_processes = stuck  # type: ignore[method-assign]
    async with serving(answers) as port:
        first = await ask(port, "/metrics")
        assert (first.code, first.body) == (200, b"")
        finish.set()  # the same sample goes on, and the next scrape has it
        assert json.loads((await ask(port, "/processes")).body) == [{"pid": 1}, {"pid": 2}]


@in_loop
async def test_a_scrape_and_a_person_share_a_sample() -> None:
    answers = FakeAnswers()
    async with serving(answers) as port:
        assert (await ask(port, "/metrics")).body == b"unitagent_workload_processes 1.0\n"
        assert json.loads((await ask(port, "/processes")).body)[0]["pid"] == 42
        for path in (*PROBES_BY_PATH, "/status", "/nothing"):
            await ask(port, path)
        assert answers.samples == 1


@in_loop
async def test_a_slow_sample_is_reused_for_longer() -> None:
    taken = 0

    async def sample() -> list[dict[str, object]]:
        nonlocal taken
        taken += 1
        await asyncio.sleep(0.2)
        return []

    sampler = ProcessSampler(sample)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while taken < 2:
        await sampler.read()
        await asyncio.sleep(0.01)
    assert loop.time() - begun >= 20 * 0.2


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
        proof._nonce = proof.question = "ab" * 16  # as if /status had been asked
        assert not proof.verify_answer(reply.headers, reply.body)
