"""Asking and reaching peers over real sockets: honest ones, silent ones, and liars."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from tests.ports import free_port
from tests.probes.agents import HOST, FakeAnswers, instance, record, saying, serving, status
from tests.probes.loops import in_loop, until
from unitagent.core.events import PeerAnswered, ProbeResult
from unitagent.core.model import InstanceState
from unitagent.probes.answer_signature import AnswerClaim, sign_answer
from unitagent.probes.peer_http import _CHUNK as CHUNK
from unitagent.probes.peer_http import _MAX_ANSWER as LIMIT
from unitagent.probes.peer_http import HttpResponse
from unitagent.probes.peer_http import _read_response as read
from unitagent.probes.peers import PeerAsker, Peers, PeerVerdict, judge_answer
from unitagent.system.keyring import Keyring

HELD, UNLIKE = Keyring("s3"), Keyring("other")
SILENT = PeerVerdict(ProbeResult.SILENT)
STRANGER = PeerVerdict(ProbeResult.STRANGER)
ALIVE = PeerVerdict(ProbeResult.ALIVE, 7, working=True, ready=True)
NAMED = {"x-unitagent-unit": "u", "x-unitagent-rank": "1", "x-unitagent-incarnation": "abc"}


def peers(secret: Keyring | None = None, source: str = HOST, timeout: float = 5.0) -> Peers:
    return Peers(PeerAsker("u", "me", secret or Keyring()), source, timeout, lambda rank, incarnation: None)


def reply(body: bytes, *headers: str, first: str = "HTTP/1.1 200 OK") -> bytes:
    known = ["X-Unitagent-Unit: u", "X-Unitagent-Rank: 1", "X-Unitagent-Incarnation: abc"]
    return "\r\n".join([first, *known, *headers, "", ""]).encode() + body


def honest(**changes: Any) -> bytes:
    return json.dumps(status(**changes)).encode()


@pytest.mark.parametrize("secret", [None, HELD])
@in_loop
async def test_a_peer_that_works_is_alive(secret: Keyring | None) -> None:
    async with serving(None, secret) as port:
        assert await peers(secret).ask_peer(record(port)) == ALIVE


@pytest.mark.parametrize(("theirs", "ours"), [(None, HELD), (UNLIKE, HELD), (HELD, None)])
@pytest.mark.parametrize("who", [(1, "abc"), (1, "newer"), (0, "zero")])
@in_loop
async def test_who_does_not_sign_as_i_do_is_a_stranger(
    theirs: Keyring | None, ours: Keyring | None, who: tuple[int, str]
) -> None:
    async with serving(FakeAnswers(who=who), theirs) as port:
        assert await peers(ours).ask_peer(record(port)) == STRANGER


@pytest.mark.parametrize("theirs", [None, HELD, UNLIKE])
@pytest.mark.parametrize("rank", [0, 1])
@in_loop
async def test_an_address_that_leads_back_to_me_is_my_own(theirs: Keyring | None, rank: int) -> None:
    """Two machines may both have a bridge with the same address; whatever secret, nobody else has my id."""
    async with serving(FakeAnswers(who=(rank, "me")), theirs) as port:
        assert await peers(HELD).ask_peer(record(port)) == PeerVerdict(ProbeResult.SELF)
        assert await peers().ask_peer(record(port)) == PeerVerdict(ProbeResult.SELF)


@pytest.mark.parametrize("secret", [None, HELD])
@pytest.mark.parametrize("who", [(1, "newer"), (0, "zero")])
@in_loop
async def test_somebody_else_at_the_address_is_another(who: tuple[int, str], secret: Keyring | None) -> None:
    async with serving(FakeAnswers(who=who), secret) as port:
        assert await peers(secret).ask_peer(record(port)) == PeerVerdict(ProbeResult.OTHER)


@pytest.mark.parametrize("secret", [None, HELD])
@in_loop
async def test_the_same_name_in_another_unit_is_another(secret: Keyring | None) -> None:
    async with serving(FakeAnswers(unit="v"), secret) as port:
        assert await peers(secret).ask_peer(record(port)) == PeerVerdict(ProbeResult.OTHER)


@pytest.mark.parametrize("state", InstanceState)
@in_loop
async def test_whether_a_peer_works(state: InstanceState) -> None:
    shown = status(instances=[instance(state=state.value, generation=9)])
    async with serving(FakeAnswers(shown=shown)) as port:
        verdict = await peers().ask_peer(record(port))
    works = state in {InstanceState.STARTING, InstanceState.RUNNING, InstanceState.HEALTHY}
    assert verdict == PeerVerdict(ProbeResult.ALIVE, 9, works, ready=True)


@in_loop
async def test_a_peer_tells_that_the_unit_does_not_serve() -> None:
    async with serving(FakeAnswers(shown=status(ready=False))) as port:
        assert await peers().ask_peer(record(port)) == ALIVE._replace(ready=False)


def test_the_core_is_told_all_that_came_of_asking() -> None:
    told = [field.name for field in fields(PeerAnswered)]
    assert told == ["now", "rank", "incarnation", *PeerVerdict._fields]


@in_loop
async def test_nobody_listening_is_refused() -> None:
    port = free_port()
    assert await peers().ask_peer(record(port)) == PeerVerdict(ProbeResult.REFUSED)


@in_loop
async def test_a_peer_that_accepts_and_says_nothing_is_silent() -> None:
    with socket.create_server((HOST, 0)) as mute:
        assert await peers(timeout=0.2).ask_peer(record(mute.getsockname()[1])) == SILENT


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # says not who it is
        reply(b"", "Content-Length: 100"),
        reply(b"{}"),
        reply(b"[" * 100_000),
        reply(b'{"x":' * 100_000),
        reply(honest(ready="yes")),
        reply(honest(instances=[])),
        reply(honest(instances=[instance(incarnation="other")])),
        reply(honest(instances=[instance(rank=3)])),
        reply(honest(instances=[instance(generation=-1)])),
        reply(honest(instances=[instance(generation=10**30)])),
        reply(honest(instances=[instance(state="fine")])),
        reply(honest(unit="x" * (1 << 20))),
        reply(honest(), first="HTTP/1.1 503 No"),
        reply(b"%x\r\n%s\r\n0\r\n\r\n" % (len(honest()), honest()), "Transfer-Encoding: chunked"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply(honest()),
        reply(honest(), "Location: /status", first="HTTP/1.1 302 Found"),
        reply(honest(), "Content-Encoding: gzip", first="HTTP/1.1 500 No"),
        reply(honest()).replace(b"Rank: 1", b"Rank: 2"),
        reply(honest()).replace(b"Rank: 1", b"Rank: one"),
        reply(honest()).replace(b"Rank: 1", b"Rank: " + b"1" * 5000),
        reply(honest()).replace(b"Incarnation: abc", b"Incarnation: "),
    ],
)
@in_loop
async def test_a_liar_is_silent(answer: bytes) -> None:
    async with saying(answer) as port:
        assert await peers().ask_peer(record(port)) == SILENT


@in_loop
async def test_the_honest_form_of_those_lies_is_believed() -> None:
    async with saying(reply(honest())) as port:
        assert await peers().ask_peer(record(port)) == ALIVE


@in_loop
async def test_a_signature_for_another_question_is_a_strangers() -> None:
    old = sign_answer(HELD, AnswerClaim("0" * 32, "u", 1, "abc", honest()))
    async with saying(reply(honest(), f"X-Unitagent-Signature: {old}")) as port:
        assert await peers(HELD).ask_peer(record(port)) == STRANGER
        assert await peers().ask_peer(record(port)) == STRANGER


@pytest.mark.parametrize(
    ("claim", "opinion"),
    [
        (AnswerClaim("n", "u", 1, "abc", honest()), ProbeResult.ALIVE),
        (AnswerClaim("m", "u", 1, "abc", honest()), ProbeResult.STRANGER),
        (AnswerClaim("n", "u", 2, "abc", honest()), ProbeResult.STRANGER),
        (AnswerClaim("n", "v", 1, "abc", honest()), ProbeResult.STRANGER),
        (AnswerClaim("n", "u", 1, "newer", honest()), ProbeResult.STRANGER),
        (AnswerClaim("n", "u", 1, "abc", honest(ready=False)), ProbeResult.STRANGER),
    ],
)
def test_a_signature_is_for_this_question_this_agent_and_this_answer(
    claim: AnswerClaim, opinion: ProbeResult
) -> None:
    headers = NAMED | {"x-unitagent-signature": sign_answer(HELD, claim)}
    verdict = judge_answer(record(1), HttpResponse(200, headers, honest()), PeerAsker("u", "me", HELD), "n")
    assert verdict.result is opinion


@in_loop
async def test_an_endless_answer_ends() -> None:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b""))
        while not writer.transport.is_closing():
            writer.write(b"x" * 65536)
            await asyncio.gather(writer.drain(), return_exceptions=True)

    server = await asyncio.start_server(pour, HOST, 0)
    async with server:
        assert await peers().ask_peer(record(server.sockets[0].getsockname()[1])) == SILENT


@in_loop
async def test_others_have_their_turn_between_the_pieces_of_a_long_answer() -> None:
    pieces, turns = 40, [0]
    connection, reader = h11.Connection(h11.CLIENT), asyncio.StreamReader()
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", HOST)]))
    connection.send(h11.EndOfMessage())
    reader.feed_data(reply(b"x" * pieces * CHUNK))  # all is there at once

    async def take() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(take())
    with pytest.raises(ValueError, match="more than"):
        await read(connection, reader)
    task.cancel()
    assert turns[0] > LIMIT / CHUNK / 2


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX:", reply(b"")])
@in_loop
async def test_a_trickled_answer_ends_and_leaves_no_task(start: bytes) -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)

    server = await asyncio.start_server(trickle, HOST, 0)
    async with server:
        assert await peers(timeout=0.3).ask_peer(record(server.sockets[0].getsockname()[1])) == SILENT
        await until(lambda: not [task for task in asyncio.all_tasks() if "Peers" in str(task.get_coro())])


@pytest.mark.parametrize(
    "changes",
    [{"ip": ""}, {"ip": "localhost"}, {"ip": "127.0.0.1/x"}, {"port": 0}, {"port": 70000}, {"port": -1}],
)
@in_loop
async def test_a_record_without_an_address_is_silent(changes: dict[str, Any]) -> None:
    assert await peers().ask_peer(record(1, **changes)) == SILENT


@in_loop
async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving() as port:
        assert await peers().ask_peer(record(port)) == ALIVE


@in_loop
async def test_questions_come_from_our_interface() -> None:
    callers = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(note, HOST, 0)
    async with server:
        one = record(server.sockets[0].getsockname()[1])
        await peers(source="127.0.0.9", timeout=0.1).ask_peer(one)
        await until(lambda: callers)
        await peers(source="127.0.0.9").check_peers([one])
        await until(lambda: len(callers) > 1)
    assert set(callers) == {"127.0.0.9"}


@in_loop
async def test_a_question_that_gets_lost_is_asked_again() -> None:
    """The first connection is never served, as when its packets are lost."""
    heard = 0

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        await (reader.read() if heard == 1 else reader.readuntil(b"\r\n\r\n"))
        writer.write(reply(honest()))
        writer.close()

    server = await asyncio.start_server(late, HOST, 0)
    async with server:
        assert await peers().ask_peer(record(server.sockets[0].getsockname()[1])) == ALIVE
    assert heard == 2


@in_loop
async def test_a_peer_that_is_only_slow_is_asked_once() -> None:
    """Its machine has the question; asking again would make it slower."""
    heard = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)  # two pauses after which a lost question is asked again
        writer.write(reply(honest()))
        writer.close()

    server = await asyncio.start_server(slow, HOST, 0)
    async with server:
        assert await peers().ask_peer(record(server.sockets[0].getsockname()[1])) == ALIVE
    assert heard == 1


@in_loop
async def test_an_ipv6_peer() -> None:
    async with serving() as port:
        assert await peers(source="::1").ask_peer(record(port, ip="::1")) == PeerVerdict(ProbeResult.REFUSED)
        assert await peers(source=HOST).ask_peer(record(port, ip="::1")) == SILENT


@in_loop
async def test_who_answers_at_each_address() -> None:
    """A connection alone proves nothing: only the very incarnation can say that it is reached."""
    nobody = free_port()
    with socket.create_server((HOST, 0)) as mute:
        async with (
            serving() as port,
            serving(FakeAnswers(who=(1, "newer"))) as other,
            serving(FakeAnswers(who=(1, "me"))) as own,
            serving(None, HELD) as strange,
        ):
            records = {
                "abc": (port, ProbeResult.ALIVE),
                "another": (port, ProbeResult.OTHER),
                "replaced": (other, ProbeResult.OTHER),
                "here": (own, ProbeResult.SELF),
                "foreign": (strange, ProbeResult.STRANGER),
                "gone": (nobody, ProbeResult.REFUSED),
                "hung": (mute.getsockname()[1], ProbeResult.SILENT),
                "portless": (0, ProbeResult.SILENT),
                "beyond": (70000, ProbeResult.SILENT),
            }
            asked = [record(where, incarnation=name) for name, (where, _) in records.items()]
            answers = await peers(timeout=0.5).check_peers(
                [*asked, record(port, incarnation="x", ip="nonsense")]
            )
    assert answers == {name: opinion for name, (_, opinion) in records.items()} | {"x": ProbeResult.SILENT}


@in_loop
async def test_more_peers_than_are_asked_at_once() -> None:
    async with serving() as port:
        answers = await peers().check_peers([record(port, incarnation=f"i{number}") for number in range(100)])
    assert answers == {f"i{number}": ProbeResult.OTHER for number in range(100)}


@in_loop
async def test_nobody_to_reach() -> None:
    assert await peers().check_peers([]) == {}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
meant: st.SearchStrategy[Any] = st.sampled_from(
    [-1, 1024, 2**53 - 1, 2**53 + 1, 10**30, 1e308, "healthy", "abc", "me", "\x1b[2J", "$(id)"]
)
near = st.builds(
    lambda fields, other: json.dumps(
        {"ready": True, "instances": [{**instance(), **fields}, other]}
    ).encode(),
    st.dictionaries(
        st.sampled_from(["rank", "incarnation", "state", "generation"]), json_values | meant, max_size=2
    ),
    json_values,
)
named = st.fixed_dictionaries(
    {},
    optional={
        "x-unitagent-unit": st.sampled_from(["u", "v", "", "é"]),
        "x-unitagent-rank": st.sampled_from(["0", "1", "01", "-1", "1024", "99999", "\u0661", "1 "]),
        "x-unitagent-incarnation": st.sampled_from(["abc", "me", "other", "", "abc "]),
        "x-unitagent-signature": st.sampled_from(["", "0" * 64, "é" * 64]),
    },
)


@settings(max_examples=200)
@given(st.integers(100, 599), named, near, st.sampled_from([None, HELD]))
def test_whoever_answers_is_the_one_that_was_asked_or_proves_nothing(
    code: int, headers: dict[str, str], body: bytes, secret: Keyring | None
) -> None:
    verdict = judge_answer(
        record(1), HttpResponse(code, headers, body), PeerAsker("u", "me", secret or Keyring()), "n"
    )
    alike = (code, headers.get("x-unitagent-unit"), headers.get("x-unitagent-incarnation")) == (
        200,
        "u",
        "abc",
    )
    assert verdict.result is not ProbeResult.REFUSED
    assert verdict.result is not ProbeResult.ALIVE or (alike and secret is None)
    assert 0 <= verdict.generation <= 2**53


@settings(max_examples=200)
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()) | near)
def test_any_body_is_judged_without_an_error(body: bytes) -> None:
    verdict = judge_answer(record(1), HttpResponse(200, NAMED, body), PeerAsker("u", "me"), "")
    assert verdict.result in {ProbeResult.ALIVE, ProbeResult.SILENT}
    assert judge_answer(record(1), HttpResponse(200, NAMED, body), PeerAsker("u", "me", HELD), "") == STRANGER


@settings(max_examples=40)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_of_a_peer_do_no_harm(answer: bytes, proper: bool) -> None:
    @in_loop
    async def talk() -> None:
        async with saying(reply(answer) if proper else answer) as port:
            assert await peers().ask_peer(record(port)) == SILENT

    talk()
