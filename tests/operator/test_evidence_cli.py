"""``unitagent evidence`` with a store that holds anything, and agents that answer anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.operator.command import run
from tests.records import exchange, record
from tests.servers import running
from unitagent.operator.evidence_listing import _read_collection, _select_last
from unitagent.store.redis_store import RedisStore

HOSTILE = "\x1b[31mevil\nrank 1: not so"


def test_what_others_wrote_begins_no_line_and_leaves_no_folder(tmp_path: Path) -> None:
    with running(tmp_path) as server:

        async def join() -> None:
            store = RedisStore("u", server.url, timeout=5, rank=0, incarnation="i0")
            await store.exchange(exchange(record(0, "i0", size=1)))
            await store.close()

        asyncio.run(join())
        entry = {
            "generation": 1,
            "rank": 0,
            "at": 1e308,
            "cause": HOSTILE,
            "name": "../../x",
            "places": [{"pid": "x"}],
        }
        server.command(
            "HSET", "unitagent:{u}:evidence:1", "generation", "1", "0", json.dumps(entry), "1", "x"
        )
        words = ("evidence", "--unit", "u", "--fetch", str(tmp_path / "got"))
        done = run(*words, environ={"UNIT_REDIS_URL": server.url})
    assert done.returncode == 1, "its files cannot be fetched"
    assert "rank 0: \\x1b[31mevil\\nrank 1: not so\n" in done.stdout
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"generation": "x", "at": [], "files": [1, {"bytes": "x"}], "report": [], "name": {}},
        {"generation": True, "files": {}, "report": {"places": 7, "cause": ["x"], "trouble": {}}},
    ],
)
def test_an_agent_may_answer_anything(answer: dict[str, object]) -> None:
    evidence = _read_collection(3, answer)
    assert (evidence.rank, evidence.size, evidence.list_places()) == (3, 0, [])


def test_what_an_earlier_unit_of_the_name_left_is_no_part_of_a_failure() -> None:
    old, new = ({"generation": 1, "at": at, "name": "n"} for at in (1e9, 1e9 + 90_000))
    assert [*_select_last({0: _read_collection(0, new), 1: _read_collection(1, old)})] == [0]
