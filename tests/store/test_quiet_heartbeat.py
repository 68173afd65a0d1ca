"""A heartbeat of an agent that has nothing to say takes a short way through the script. Whatever it finds, it
has to answer what the long way answers, and leave what that leaves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.servers import running
from unitagent.store.scripts import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server

BOARD, CHANGES, HISTORY, OTHER = "{u}:board", "{u}:changes", "{u}:history", "{u}:other"
ME = "a" * 8
LONG_WAY = EXCHANGE.source.replace(b"local quiet = beat_quietly()", b"local quiet = nil")
assert EXCHANGE.source != LONG_WAY

# What others may have done to the board between two heartbeats.
CHANGES_BETWEEN: dict[str, Callable[[redis.Redis], object]] = {
    "nothing": lambda client: None,
    "a neighbour beats": lambda client: client.hset(BOARD, "b1", "b 7 123"),
    "a neighbour's beat is garbage": lambda client: client.hset(BOARD, "b1", "x" * 1000),
    "a record is new": lambda client: change(client, "r1", "other"),
    "a generation": lambda client: client.hset(BOARD, "generation", "4"),
    "an impossible generation": lambda client: client.hset(BOARD, "generation", str(2**52)),
    "a lower generation": lambda client: client.hset(BOARD, "generation", "1"),
    "a failure": lambda client: client.hset(BOARD, "failure", "3 why"),
    "a long failure": lambda client: client.hset(BOARD, "failure", "3 " + "y" * 20000),
    "an order": lambda client: client.hset(BOARD, "order", "3 5 wish"),
    "an order that all obeyed is forgotten": lambda client: client.hdel(BOARD, "ordered"),
    "an order of the next century": lambda client: client.hset(BOARD, "ordered", str(2**53 - 2)),
    "another holder": lambda client: client.hset(BOARD, mapping={"h0": "b", "b0": "b 3 5"}),
    "my holder's name is lost": lambda client: client.hdel(BOARD, "h0"),
    "my beat is lost": lambda client: client.hdel(BOARD, "b0"),
    "my beat has a name of garbage": lambda client: client.hset(BOARD, "b0", "nonsense"),
    "my beat is later": lambda client: client.hset(BOARD, "b0", f"{ME} 999 5"),
    "my record is lost": lambda client: client.hdel(BOARD, "r0"),
    "my record is another": lambda client: client.hset(BOARD, "r0", "{}"),
    "my change is lost": lambda client: client.zrem(CHANGES, 0),
    "all changes are lost": lambda client: client.delete(CHANGES),
    "the changes are a string": lambda client: (client.delete(CHANGES), client.set(CHANGES, "x")),
    "the board is a string": lambda client: (client.delete(BOARD), client.set(BOARD, "x")),
    "all is lost": lambda client: client.delete(BOARD, CHANGES),
    "the board is another": lambda client: client.hset(BOARD, "born", "5 z"),
    "the version went back": lambda client: client.hset(BOARD, "version", "5"),
    "the version is garbage": lambda client: client.hset(BOARD, "version", "x"),
}


def change(client: redis.Redis, field: str, record: str) -> None:
    """Another agent writes its record."""
    version = int(client.hget(BOARD, "version") or 0) + 1
    client.hset(BOARD, mapping={field: record, "version": version})
    client.zadd(CHANGES, {field[1:]: version})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as opened:
        opened.flushall()
        yield opened


def exchange(client: redis.Redis, script: bytes, **said: Any) -> Any:
    """One exchange of rank 0, which reads the beats of ranks 0 and 1."""
    words: dict[str, Any] = {
        "rank": 0, "me": ME, "count": 1, "record": '{"rank": 0}', "take": "", "seen": 0, "generation": 3,
        "failure": "", "order": "", "notify": 0, "since": 0, "epoch": "", "channel": "look", "obeyed": 9,
        "size": 2, "digest": "",
    } | said  # fmt: skip
    return client.eval(script.decode(), 3, BOARD, CHANGES, HISTORY, *words.values(), 0, 1)


def prepared(client: redis.Redis) -> dict[str, Any]:
    """What an agent says that knows all that is on the board."""
    client.hset(BOARD, mapping={"r1": "one", "b1": "b 1 1", "h1": "b", "version": 5})
    client.zadd(CHANGES, {"1": 5})
    _, born, _, version, *_ = exchange(client, LONG_WAY)
    return {"count": 2, "since": version, "epoch": born}


def timeless(value: Any) -> Any:
    """A part of an answer, or of the board, without the times in it."""
    if isinstance(value, list):
        return [timeless(one) for one in value]
    return re.sub(rb"\d{10,}", b"time", value) if isinstance(value, bytes) else value


def answered(answer: list[Any], since: int) -> list[Any]:
    """An answer, with its version as whether something is new, and whether all comes."""
    return [int(answer[3]) > since, int(answer[4]) == since, *timeless([answer[1], answer[0], *answer[5:]])]


def left(client: redis.Redis) -> list[Any]:
    """What is on the board."""
    board = {name: timeless(value) for name, value in client.hgetall(BOARD).items()}
    return [board, client.zrange(CHANGES, 0, -1)]


@pytest.mark.parametrize("happened", CHANGES_BETWEEN)
@pytest.mark.parametrize(
    "said",
    [{}, {"notify": 1}, {"failure": "3 x"}, {"order": "w"}, {"record": ""}, {"obeyed": 12}, {"count": 1},
     {"generation": 4}, {"rank": "", "record": ""}, {"since": 0}, {"digest": "another"}, {"record": "{}"}],
    ids=str,
)  # fmt: skip
def test_the_short_way_answers_and_leaves_what_the_long_way_does(
    client: redis.Redis, happened: str, said: dict[str, Any]
) -> None:
    both = []
    for script in (EXCHANGE.source, LONG_WAY):
        client.flushall()
        client.hset(BOARD, mapping={"born": "1000 a"})
        known = prepared(client)
        CHANGES_BETWEEN[happened](client)
        answer = exchange(client, script, **known | said)
        since = (known | said)["since"]
        both.append((answered(answer, int(since)), left(client)))
    assert both[0] == both[1]


def test_a_heartbeat_with_nothing_to_say_takes_the_short_way(client: redis.Redis) -> None:
    known = prepared(client)
    client.config_resetstat()
    for count in range(10, 110):
        exchange(client, EXCHANGE.source, **known | {"count": count})
    calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}
    assert calls["hmget"] >= 100
    assert calls.get("type", 0) <= 4  # once in ten minutes all keys are kept from expiring


def test_without_the_right_to_it_the_long_way_answers(client: redis.Redis, server: Server) -> None:
    known = prepared(client)
    client.acl_setuser(
        "least",
        enabled=True,
        passwords="+least",
        keys="*",
        channels="*",
        categories=["+@all"],
        commands=["-hmget"],
    )
    with redis.Redis.from_url(server.url.replace("//", "//least:least@")) as least:
        assert exchange(least, EXCHANGE.source, **known)[5] == ME.encode()
