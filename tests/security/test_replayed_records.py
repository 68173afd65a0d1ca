"""Somebody writes an old record of a rank again, with its signature, and beats that he made up.

Nobody is fenced by it, nobody starts with the old record, and who serves goes on: the living rank answers.
What stays possible ``SECURITY.md`` says: who does not serve has to wait until the false beats end; and where
ranks cannot be asked, the old record is believed.
"""

from __future__ import annotations

import pytest

from tests.core.unit import STEP, Unit
from tests.security.victims import SECRET, UNIT, MakeVictim, attacking, server, victim
from tests.servers import Server
from tests.waiting import throughout, until
from unitagent.core.events import Tick
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
def test_who_stands_at_the_barrier_stays_there(guard: bool) -> None:
    unit = Unit(2, guard=guard)
    unit.create(1)
    unit.wait(LONG)
    old = rebuilt(unit, 1)
    replay(unit, old, LONG)
    assert unit.take() == []
    unit.wait(LONG)
    unit.create(0)
    unit.wait(LONG)
    assert unit.ready() == {0, 1}


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
    replay(unit, old, unit.agents[0].config.timing.takeover - 1)
    unit.wait(LONG)
    assert unit.ready() == {0, 1}
    assert unit.take() == []


def test_with_guard_a_long_replay_ends_nothing_while_the_living_rank_answers() -> None:
    unit = Unit(2, guard=True).formed()
    replay(unit, rebuilt(unit, 1), LONG)
    assert unit.take() == []
    assert unit.ready() == {0, 1}


def test_where_ranks_cannot_be_asked_a_long_replay_is_believed() -> None:
    unit = Unit(2, guard=True, probes=False)
    unit.create(0, 1, port=0)
    unit.wait(2)
    old = unit.store.board.records[1]
    unit.kill(1)
    unit.wait(1)
    unit.create(1, ip="10.0.1.1", port=0)
    unit.wait(LONG)
    unit.take()
    replay(unit, old, LONG)
    assert unit.take() == ["0 stop 5", "1 stop 5", "1 quit 76"]


def test_without_guard_a_long_replay_of_rank_0_ends_nothing_while_it_answers() -> None:
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
    assert unit.codes == {}
    assert unit.take() == []


@pytest.mark.slow
def test_a_real_unit_goes_on(server: Server, victim: MakeVictim) -> None:
    leader, other = victim(0, UNIT_SECRET=SECRET), victim(1, UNIT_SECRET=SECRET)
    until(lambda: leader.met and other.met, "the Unit runs")
    raw = server.command("HGET", f"unitagent:{{{UNIT}}}:board", "r0").split(b"\r\n")[1].decode()
    leader.close()
    again = victim(0, UNIT_SECRET=SECRET)
    until(lambda: again.met, "the Unit runs again")
    until(lambda: again.output.count("is ready in generation"), "it serves")
    said = len(other.output)
    with attacking("parrot", server.url, UNIT, raw):
        throughout(lambda: "ended:" not in other.output[said:], "the Unit restarted", 10.0, pause=0.2)
    assert again.popen.poll() is None
    assert other.popen.poll() is None
