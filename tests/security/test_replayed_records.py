"""Somebody writes an old record of a rank again, with its signature, and beats that he made up.

What is shown here is what stays possible, and ``SECURITY.md`` says so: it denies service and nothing more. A
rank ends with 76 while it does not serve; one whose end is the Unit's does so while it serves, too, once the
others have not seen its own beats for as long as a newcomer waits for a silent holder. Nobody starts with the
old record.
"""

from __future__ import annotations

import pytest

from tests.acceptance.local import until
from tests.core.unit import STEP, Unit
from tests.security.victims import SECRET, UNIT, MakeVictim, attacking, server, victim
from tests.servers import Server
from unitagent.core.events import Tick
from unitagent.core.exits import Code
from unitagent.core.model import Beat, Record

__all__ = ["server", "victim"]

MANY = 10**6  # beats, more than any life has had
LONG = 30.0  # seconds


def replay(unit: Unit, record: Record, seconds: float) -> None:
    """Write a record and another beat before each look of anybody."""
    board, rank = unit.store.board, record.rank
    end, beats = unit.now + seconds, MANY
    while unit.now < end:
        unit.now += STEP
        for agent in sorted(unit.agents):
            beats += 1
            board.records[rank], board.holders[rank] = record, record.incarnation
            board.beats[rank] = (Beat(record.incarnation, beats), unit.now)
            unit.tell(agent, Tick)


def rebuilt(unit: Unit, rank: int) -> Record:
    """The record of a former life of a rank that lives again, at another address."""
    old = unit.store.board.records[rank]
    unit.kill(rank)
    unit.wait(1)
    unit.create(rank, ip="10.0.1.1")
    unit.wait(LONG)
    assert unit.agents[rank].me.outranks(old)
    unit.take()
    return old


@pytest.mark.parametrize("guard", [False, True])
def test_who_stands_at_the_barrier_is_fenced(guard: bool) -> None:
    unit = Unit(2, guard=guard)
    unit.create(1)
    unit.wait(LONG)
    old = rebuilt(unit, 1)
    replay(unit, old, 1)
    assert unit.take() == [f"1 quit {Code.FENCED}"]


def test_without_guard_who_serves_is_not_fenced() -> None:
    unit = Unit(2).formed()
    replay(unit, rebuilt(unit, 1), LONG)
    assert unit.ready() == {0, 1}
    assert unit.take() == []


def test_a_unit_of_one_that_serves_goes_on() -> None:
    unit = Unit(1, guard=True).formed()
    replay(unit, rebuilt(unit, 0), LONG)
    assert unit.ready() == {0}
    assert unit.take() == []


def test_with_guard_who_serves_is_not_fenced_by_a_short_replay() -> None:
    unit = Unit(2, guard=True).formed()
    old = rebuilt(unit, 1)
    replay(unit, old, unit.agents[0].rules.timing.takeover - 1)
    unit.wait(LONG)
    assert unit.ready() == {0, 1}
    assert unit.take() == []


def test_with_guard_a_long_replay_ends_a_rank_and_starts_nobody() -> None:
    unit = Unit(2, guard=True).formed()
    old = rebuilt(unit, 1)
    replay(unit, old, LONG)
    assert unit.codes == {1: Code.FENCED}
    assert unit.take() == ["0 stop 5", "1 stop 5", f"1 quit {Code.FENCED}"]


def test_without_guard_a_long_replay_ends_rank_0_and_starts_nobody() -> None:
    unit = Unit(2).formed()
    old = unit.store.board.records[0]
    unit.kill(0)
    unit.kill(1)
    unit.wait(1)
    unit.create(0, ip="10.0.1.1")
    unit.create(1)
    unit.wait(LONG)
    assert unit.ready() == {0, 1}
    unit.take()
    replay(unit, old, LONG)
    assert unit.codes == {0: Code.FENCED, 1: Code.RECREATE}
    assert not [word for word in unit.take() if "spawn" in word]


@pytest.mark.slow
def test_a_real_rank_is_ended_so_and_the_other_waits(server: Server, victim: MakeVictim) -> None:
    leader, other = victim(0, UNIT_SECRET=SECRET), victim(1, UNIT_SECRET=SECRET)
    until(lambda: leader.met and other.met, "the Unit runs")
    raw = server.command("HGET", f"unitagent:{{{UNIT}}}:board", "r0").split(b"\r\n")[1].decode()
    leader.close()
    again = victim(0, UNIT_SECRET=SECRET)
    until(lambda: again.met, "the Unit runs again")
    said = len(other.output)
    with attacking("parrot", server.url, UNIT, raw):
        assert again.popen.wait(60) == Code.FENCED
        until(lambda: "at the barrier of" in other.output[said:], "the other waits at the barrier")
        assert other.popen.poll() is None
