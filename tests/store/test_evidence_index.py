"""What ranks have collected, in the store; and a failure that is explained later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.listening import story
from unitagent.core.model import Failure, Reason
from unitagent.store import codec
from unitagent.store.evidence_index import LONGEST_ENTRY, EvidenceIndex
from unitagent.store.keys import KEPT_EVIDENCE, KeyNames

if TYPE_CHECKING:
    from tests.servers import Server

NAMES = KeyNames("u")


@pytest.fixture
def index(server: Server) -> EvidenceIndex:
    return EvidenceIndex("u", server.url, timeout=5)


def keep_failure(server: Server, generation: int, detail: str = "rank 1 hangs") -> Failure:
    failure = Failure(generation=generation, rank=1, ip="10.0.0.1", reason=Reason.STALLED, detail=detail)
    server.command("HSET", NAMES.membership_table, "failure", codec.encode_failure(failure).decode())
    return failure


async def read_failure(index: EvidenceIndex, server: Server) -> Failure | None:
    raw = server.command("HGET", NAMES.membership_table, "failure")
    return codec.decode_failure(raw.partition(b"\r\n")[2].rstrip())


@story
async def test_entries_are_read_by_generation_and_rank(index: EvidenceIndex) -> None:
    assert await index.count_entries(3) == 0
    assert await index.put_entry(3, 0, b'{"a":1}') == 1
    assert await index.put_entry(3, 12, b"a word") == 2
    assert await index.put_entry(3, 12, b"two words") == 2
    assert await index.put_entry(4, 0, b"x") == 1
    assert await index.count_entries(3) == 2
    assert await index.read_entries(3) == {0: b'{"a":1}', 12: b"two words"}
    assert await index.read_entries(9) == {}
    assert list(await index.read_all()) == [3, 4]
    await index.close()


@story
async def test_an_older_generation_gives_way(index: EvidenceIndex) -> None:
    for generation in range(1, KEPT_EVIDENCE + 3):
        await index.put_entry(generation, 0, b"x")
    assert list(await index.read_all()) == list(range(3, KEPT_EVIDENCE + 3))
    assert await index.put_entry(1, 0, b"late") == 0
    assert await index.count_entries(1) == 0
    assert await index.read_entries(1) == {}
    assert await index.read_entries(KEPT_EVIDENCE + 1) == {0: b"x"}
    await index.close()


@story
async def test_it_expires(index: EvidenceIndex, server: Server) -> None:
    await index.put_entry(3, 0, b"x")
    left = int(server.command("TTL", NAMES.name_evidence(3)).strip(b":\r\n"))
    assert 0 < left <= 86400
    await index.close()


@story
async def test_garbage_is_passed_over(index: EvidenceIndex, server: Server) -> None:
    await index.put_entry(3, 0, b"x")
    long = "y" * LONGEST_ENTRY * 2
    for field, value in (("x", "y"), ("01", "y"), ("5000", "y"), ("1", long), ("count", "many")):
        server.command("HSET", NAMES.name_evidence(3), field, value)
    assert await index.read_entries(3) == {0: b"x"}
    await index.close()


@story
async def test_a_failure_is_explained_once(index: EvidenceIndex, server: Server) -> None:
    failure = keep_failure(server, 3)
    assert await index.explain_failure(3, "; rank 0 waits")
    assert await index.explain_failure(3, "; rank 0 waits")
    assert await index.explain_failure(3, ": out of memory")
    found = await read_failure(index, server)
    assert found is not None
    assert found.detail == "rank 1 hangs; rank 0 waits: out of memory"
    assert (found.generation, found.rank, found.reason) == (3, 1, failure.reason)
    await index.close()


@story
async def test_a_later_failure_is_not_touched(index: EvidenceIndex, server: Server) -> None:
    assert not await index.explain_failure(3, "; x")
    keep_failure(server, 4)
    assert not await index.explain_failure(3, "; x")
    found = await read_failure(index, server)
    assert found is not None
    assert found.detail == "rank 1 hangs"
    await index.close()


@story
async def test_a_long_explanation_is_cut(index: EvidenceIndex, server: Server) -> None:
    keep_failure(server, 3)
    assert await index.explain_failure(3, "x" * 5000)
    found = await read_failure(index, server)
    assert found is not None
    assert len(found.detail) == 1000
    await index.close()
