"""What was read stays read as long as the same secrets count, and not a look longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.entries import entry
from tests.listening import story
from tests.records import exchange, record
from unitagent.probes.answer_signature import AnswerClaim, verify_answer
from unitagent.probes.answer_signature import sign_answer as answer
from unitagent.store.codec import SignatureMatch, check_signature, sign_value
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring, SealKind

if TYPE_CHECKING:
    from tests.servers import Server

OLD, NEW = "5f1d0c9a7b3e4682", "90b2c7d41ea86f35"


@story
async def test_a_record_is_compared_again_when_the_keys_have_changed(server: Server) -> None:
    theirs, mine = Keyring(OLD), Keyring(OLD)
    other = RedisStore("u", server.url, timeout=2, rank=1, incarnation="b", keys=theirs)
    me = RedisStore("u", server.url, timeout=2, rank=0, incarnation="a", keys=mine, refresh=1000)

    async def seen() -> tuple[set[int], set[int], set[int] | None]:
        reply = await me.exchange(exchange(record(0, "a")))
        return (
            set(reply.records),
            set(reply.unverified_ranks),
            None if me.differing_ranks is None else set(me.differing_ranks),
        )

    await other.exchange(exchange(record(1, "b")))
    assert await seen() == ({0, 1}, set(), set())
    mine.replace_secrets((NEW,))
    assert me.differing_ranks is None
    assert await seen() == ({0}, {1}, {1})
    theirs.replace_secrets((OLD, NEW))
    await other.exchange(exchange(record(1, "b")))
    assert await seen() == ({0, 1}, set(), {1})
    mine.replace_secrets((NEW, OLD))
    assert await seen() == ({0, 1}, set(), set())
    theirs.replace_secrets((OLD,))
    mine.replace_secrets((NEW,))
    await other.exchange(exchange(record(1, "b")))
    assert await seen() == ({0}, {1}, {1})
    assert (await me.read()).unlike == {1}
    server.command("FLUSHALL")  # nobody is known of whom it does not tell
    assert await seen() == ({0}, set(), set())


@story
async def test_a_line_of_the_list_is_compared_again_when_the_keys_have_changed(server: Server) -> None:
    theirs, mine = Keyring(OLD), Keyring(OLD)
    writer, reader = (Registry(server.url, timeout=2, keys=keys) for keys in (theirs, mine))
    await writer.announce_endpoint(entry())
    for secrets, seen in (((OLD,), True), ((NEW,), False), ((OLD, NEW), True), ((NEW,), False)):
        mine.replace_secrets(secrets)
        assert bool((await reader.read()).units) is seen
    theirs.replace_secrets((OLD, NEW))
    await writer.announce_endpoint(entry())
    assert (await reader.read()).units


@given(st.binary() | st.binary().map(b'{"a":1,"signature":"'.__add__).map(lambda raw: raw + b'"}'))
def test_no_bytes_of_a_stranger_are_signed(raw: bytes) -> None:
    assert check_signature(Keyring(OLD, NEW), SealKind.RECORD, "u 0", raw) is SignatureMatch.NOT_MINE
    assert check_signature(Keyring(), SealKind.RECORD, "u 0", raw) is SignatureMatch.ALIKE


@given(st.lists(st.sampled_from([OLD, NEW, "c" * 16]), min_size=1), st.lists(st.sampled_from([OLD, NEW])))
def test_one_secret_in_common_is_enough(theirs: list[str], mine: list[str]) -> None:
    keys = Keyring(*theirs)
    raw = sign_value(keys, SealKind.RECORD, "u 0", b'{"hostname":"x"}')
    found = check_signature(Keyring(*mine), SealKind.RECORD, "u 0", raw)
    if not mine or set(mine) == set(theirs):
        assert found is SignatureMatch.ALIKE
    else:
        assert found is (SignatureMatch.PARTLY if set(mine) & set(theirs) else SignatureMatch.NOT_MINE)
    claim = AnswerClaim("0" * 16, "u", 0, "a", b"{}")
    assert verify_answer(Keyring(*mine), claim, answer(keys, claim)) is bool(set(mine) & set(theirs))


def test_a_signature_that_somebody_adds_or_takes_away_is_no_proof_and_no_harm() -> None:
    raw = sign_value(Keyring(OLD, NEW), SealKind.RECORD, "u 0", b'{"hostname":"x"}')
    for changed in (raw[:-2] + b"0" * 32 + b'"}', raw[:-34] + b'"}'):
        assert check_signature(Keyring(OLD, NEW), SealKind.RECORD, "u 0", changed) is SignatureMatch.PARTLY
    assert (
        check_signature(Keyring(OLD, NEW), SealKind.RECORD, "u 0", raw.replace(b"x", b"y"))
        is SignatureMatch.NOT_MINE
    )
    crowd = raw[:-2] + b"0" * 64 + b'"}'
    assert check_signature(Keyring(OLD, NEW), SealKind.RECORD, "u 0", crowd) is SignatureMatch.NOT_MINE
