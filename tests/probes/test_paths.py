"""What each path answers, to a real client on a real socket."""

from __future__ import annotations

import json
import logging

import pytest

from tests.probes.agents import BAD, FakeAnswers, ask, instance, serving, status
from tests.probes.loops import in_loop
from unitagent.core.probe_answers import ProbeAnswer, ProbeCheck
from unitagent.core.probe_paths import PROBES_BY_PATH, READY, Probe
from unitagent.probes.answer_signature import BRIEF_HEADER, AnswerClaim, make_brief_question, verify_answer
from unitagent.system.keyring import Keyring

PROBES = {  # a contract: platforms are configured with these paths
    "/livez": "live",
    "/healthz": "live",
    "/readyz": "ready",
    "/traffic": "traffic",
    "/startupz": "startup",
}
NONCE = "0123456789abcdef"


def test_the_table_holds_what_is_promised() -> None:
    assert {path: probe.word for path, probe in PROBES_BY_PATH.items()} == PROBES


@pytest.mark.parametrize("path", PROBES)
@in_loop
async def test_a_probe_that_passes_says_ok(path: str) -> None:
    async with serving() as port:
        told = await ask(port, path)
    assert (told.code, told.text) == (200, "ok\n")
    assert told.headers["cache-control"] == "no-store"
    assert told.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", PROBES)
@in_loop
async def test_a_probe_that_fails_says_why_in_one_line(path: str) -> None:
    async with serving(FakeAnswers({PROBES[path]: BAD})) as port:
        told = await ask(port, path)
    assert (told.code, told.text) == (503, f"{path[1:]} check failed: leases: rank 2 is lost\n")


@in_loop
async def test_the_code_is_the_agents() -> None:
    draining = ProbeAnswer(404, (ProbeCheck("draining", ok=False, reason="draining"),))
    async with serving(FakeAnswers({"traffic": draining})) as port:
        told = await ask(port, "/traffic")
    assert (told.code, told.text) == (404, "traffic check failed: draining: draining\n")


@in_loop
async def test_verbose_lists_every_check() -> None:
    async with serving(FakeAnswers({"ready": BAD})) as port:
        good, bad = await ask(port, "/livez?verbose"), await ask(port, "/readyz?verbose")
    assert good.text == "[+]workload ok\n[+]leases ok\nlivez check passed\n"
    assert bad.text == (
        "readyz check failed: leases: rank 2 is lost\n[+]workload ok\n[-]leases failed: rank 2 is lost\n"
    )


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/readyz?exclude=leases", 200),
        ("/readyz?exclude=workload", 503),
        ("/readyz?exclude=workload&exclude=leases", 200),
        ("/readyz?exclude=unknown", 503),
        ("/readyz/workload", 200),
        ("/readyz/leases", 503),
        ("/readyz/", 503),
        ("/readyz/unknown", 404),
        ("/readyzz", 404),
        ("/units", 404),
        ("/units/x", 404),
        ("/status/x", 404),
        ("/readyz?" + "a&" * 100, 400),
    ],
)
@in_loop
async def test_which_checks_count(target: str, code: int) -> None:
    async with serving(FakeAnswers({"ready": BAD})) as port:
        assert (await ask(port, target)).code == code


@in_loop
async def test_an_unknown_path_lists_the_known_ones() -> None:
    async with serving() as port:
        assert (
            "/livez /healthz /readyz /traffic /startupz /status /metrics"
            in (await ask(port, "/nothing")).text
        )


@in_loop
async def test_status_and_metrics() -> None:
    answers = FakeAnswers({"ready": BAD})
    async with serving(answers) as port:
        status, metrics = await ask(port, "/status"), await ask(port, "/metrics")
    assert (status.code, json.loads(status.body)) == (200, answers.shown)
    assert status.headers["content-type"] == "application/json"
    assert (metrics.code, metrics.body) == (200, b"unitagent_workload_processes 1.0\n")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("target", ["/livez", "/readyz?verbose", "/status", "/metrics", "/", "/nothing"])
@in_loop
async def test_head_is_get_without_the_body(target: str) -> None:
    async with serving() as port:
        whole, head = await ask(port, target), await ask(port, target, method="HEAD")
    assert (head.code, head.body) == (whole.code, b"")
    assert head.headers == whole.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
@in_loop
async def test_nothing_can_be_changed(method: str) -> None:
    async with serving() as port:
        told = await ask(port, "/livez", method=method)
    assert (told.code, told.headers["allow"]) == (405, "get, head")


@in_loop
async def test_a_peer_gets_a_signed_status() -> None:
    async with serving(None, Keyring("s3")) as port:
        told = await ask(port, "/status", f"X-Unitagent-Nonce: {NONCE}")
    assert (told.headers["x-unitagent-rank"], told.headers["x-unitagent-incarnation"]) == ("1", "abc")
    claim = AnswerClaim(NONCE, "u", 1, "abc", told.body)
    assert verify_answer(Keyring("s3"), claim, told.headers["x-unitagent-signature"])
    assert not verify_answer(Keyring("s4"), claim, told.headers["x-unitagent-signature"])


@in_loop
async def test_a_peer_that_asks_briefly_is_told_of_this_instance_alone() -> None:
    """However many there are: in an outage of the store all ask rank 0, each once a heartbeat."""
    others = [instance(rank=rank, incarnation=f"i{rank}") for rank in range(1024) if rank != 1]
    answers = FakeAnswers(shown=status(size=1024, instances=[*others, instance()]))
    async with serving(answers, Keyring("s3")) as port:
        told = await ask(port, "/status", f"X-Unitagent-Nonce: {NONCE}", "X-Unitagent-Brief: 1")
    shown = json.loads(told.body)
    assert (shown["unit"], shown["ready"], shown["instances"]) == ("u", True, [instance()])
    assert len(told.body) < 512
    signature, who = told.headers["x-unitagent-signature"], ("u", 1, "abc", told.body)
    assert verify_answer(Keyring("s3"), AnswerClaim(make_brief_question(NONCE), *who), signature)
    assert not verify_answer(Keyring("s3"), AnswerClaim(NONCE, *who), signature), (
        "it passes for no whole status"
    )


@pytest.mark.parametrize("nonce", ["", "abcd", "g" * 32, "a" * 129, "0123456789abcdef x"])
@in_loop
async def test_only_a_proper_nonce_is_signed(nonce: str) -> None:
    async with serving(None, Keyring("s3")) as port:
        told = await ask(port, "/status", f"X-Unitagent-Nonce: {nonce}")
    assert told.code == 200
    assert "x-unitagent-signature" not in told.headers


@in_loop
async def test_without_a_secret_nothing_is_signed() -> None:
    async with serving() as port:
        told = await ask(port, "/status", f"X-Unitagent-Nonce: {NONCE}")
    assert "x-unitagent-signature" not in told.headers


class Broken(FakeAnswers):
    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        if probe is READY:
            raise RuntimeError("boom")
        return super().answer_probe(probe)


@in_loop
async def test_an_agent_that_cannot_answer_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Broken()) as port:
        told, alive = await ask(port, "/readyz"), await ask(port, "/livez")
    assert (told.code, alive.code) == (500, 200)
    assert "boom" not in told.text
    assert [each.exc_info for each in caplog.records if each.levelno > logging.DEBUG] == [None]


@in_loop
async def test_the_access_log_is_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as port:
        with caplog.at_level(logging.INFO):
            await ask(port, "/livez")
            assert caplog.text == ""
        with caplog.at_level(logging.DEBUG, "unitagent"):
            await ask(port, "/livez")
    assert "GET /livez -> 200" in caplog.text


@in_loop
async def test_whether_the_unit_serves_is_told_to_a_peer_as_of_now() -> None:
    """A word of a moment ago, from before it served, would turn the peer's readiness off."""
    answers = FakeAnswers(shown=status(ready=False))
    async with serving(answers) as port:
        for ready in (False, True, False):
            answers.shown = status(ready=ready)
            told = await ask(port, "/status", f"{BRIEF_HEADER}: 1")
            assert json.loads(told.body)["ready"] is ready
