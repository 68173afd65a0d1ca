"""A script keeps the embedded store busy for ever: it is killed and brought back, and the Unit serves on.

Members can bring no script; the key that can is in the memory of rank 0's agent, which tells it here.
"""

from __future__ import annotations

import sys
import time

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.security.changing import OLD, SIZE, Changing, Watched
from tests.security.starting import PROGRAMS
from tests.security.test_changed_secret import LEASE, Make, make, store_of
from tests.waiting import until
from unitagent.system.keyring import derive_store_password

__all__ = ["make"]

PROMISED, SLACK = 10.0, 10.0  # seconds that a server may be busy; a busy machine takes its time
NO_ANSWER = 0.5  # seconds


@pytest.mark.slow
def test_a_store_that_is_busy_is_killed_and_brought_back_and_the_unit_serves_on(make: Make) -> None:
    unit = make("")
    key = unit.folder / "key"
    unit.program = [sys.executable, str(PROGRAMS / "telling.py"), str(key)]
    unit.form(OLD)
    loop = load(unit.port, key.read_text(), "while true do end")
    with Watched(unit) as watched:
        busy = store_of(unit)
        call(unit, loop)
        until(lambda: is_busy(unit), "it is busy")
        began = time.monotonic()
        until(lambda: store_of(unit) != busy, "it is killed")
        assert time.monotonic() - began < PROMISED + SLACK
        until(lambda: store_of(unit) and answers(unit), "another one answers")
        until(lambda: all(unit.status(rank)["store"]["connected"] for rank in range(SIZE)), "all connect")
        watched.hold(LEASE + 1)
    assert "the embedded store has not answered for 10 s: killing it" in unit.agents[0].output


def load(port: int, key: str, script: str) -> str:
    """Teach the server a script, as rank 0's agent does."""
    with Redis(port=port, username="owner", password=key) as owner:
        return str(owner.script_load(script))


def member(unit: Changing) -> Redis:
    return Redis(
        port=unit.port,
        username="member",
        password=derive_store_password(OLD),
        socket_timeout=NO_ANSWER,
        retry=Retry(NoBackoff(), 0),
    )


def call(unit: Changing, script: str) -> None:
    """Have a script run, as every member may, and do not wait for its end."""
    with member(unit) as client, pytest.raises(RedisError):
        client.evalsha(script, 0)


def is_busy(unit: Changing) -> bool:
    """Whether the server says so; for the first 5 s of a script it says nothing."""
    try:
        with member(unit) as client:
            client.ping()
    except RedisError as error:
        return str(error).startswith("BUSY ")
    return False


def answers(unit: Changing) -> bool:
    try:
        with member(unit) as client:
            return bool(client.ping())
    except RedisError:
        return False
