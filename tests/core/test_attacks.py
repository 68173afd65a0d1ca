"""Stories with which the core was attacked. Those that break a guarantee to this day are marked so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core.events import PeerAnswered, ProbeResult, StopAsked, Tick
from unitagent.core.model import Beat, InstanceState, OrderKind, Record
from unitagent.core.timing import Timing

CALM: dict[str, Any] = {"backoff": (0.0,)}
CLOCKS_DIFFER_BY = 500e-6  # of an hour two seconds; a time service may slew a clock by that much


class Unanswered(Unit):
    """Questions of rank 0 stay open."""

    open = False
    asked: Record | None = None

    def _ask(self, rank: int, peer: Record) -> None:
        if self.open and rank == 0:
            self.asked = peer
        else:
            super()._ask(rank, peer)


def drained_by_rank_0() -> Unit:
    """Rank 0 has left, and its store with it, while rank 1's workload takes longer than a lease to end."""
    unit = Unit(2, deregister=0.0, drain=0.0, **CALM).formed()
    unit.slow = {1}
    unit.tell(0, StopAsked)
    unit.wait(1)
    assert unit.codes == {0: 0}
    unit.cut, unit.refusing = {1}, {0}
    unit.wait(8)
    assert unit.agents[1].workload.cut_off
    unit.finish(1)
    unit.cut, unit.refusing = set(), set()
    return unit


def test_without_guard_who_drains_meets_a_new_rank_0_that_the_store_tells_of_the_old_one() -> None:
    unit = drained_by_rank_0()
    unit.create(0)
    unit.wait(10)
    assert unit.ready() == {0, 1}


def test_without_guard_who_drains_meets_a_new_rank_0_with_an_empty_store() -> None:
    unit = drained_by_rank_0()
    unit.store.wipe()
    unit.create(0)
    unit.wait(60)
    assert unit.ready() == {0, 1}


def test_without_guard_rank_0_stops_when_cut_off_after_its_followers_have_left() -> None:
    unit = Unit(2).formed()
    unit.tell(1, StopAsked)
    unit.wait(8)
    assert unit.codes == {1: 0}
    unit.cut, unit.silent = {0}, {0}
    unit.wait(8)
    assert not unit.agents[0].up


def test_without_guard_nobody_waits_for_a_newcomer_that_died_before_its_first_barrier() -> None:
    unit = Unit(3, **CALM).formed()
    unit.kill(1)
    unit.kill(2)
    unit.refusing = {1, 2}
    unit.wait(10)
    board, old = unit.store.board, unit.store.board.records[2]
    claimed: dict[str, Any] = {
        "incarnation": "dead",
        "tenure": old.tenure + 1,
        "generation": 0,
        "gang": "",
        "edition": 0,
    }
    board.records[2] = replace(old, state=InstanceState.WAITING, **claimed)
    board.holders[2], board.beats[2] = "dead", (Beat("dead", 1), unit.now)
    unit.refusing = {2}
    unit.create(1)
    unit.wait(30)
    assert unit.take() == ["1 spawn 1"]


def test_a_container_that_is_killed_while_it_stops_in_a_drain_costs_no_restart() -> None:
    unit = Unit(3, guard=True, max_restarts=0, deregister=0.0, drain=0.0, **CALM).formed()
    unit.slow = {1}
    unit.tell(2, StopAsked)
    unit.wait(3)
    assert unit.codes == {2: 0}
    unit.create(2)
    unit.wait(1)
    unit.kill(1)
    unit.refusing = {1}
    unit.wait(8)
    unit.refusing = set()
    unit.create(1)
    unit.wait(5)
    assert unit.ready() == {0, 1, 2}


def test_a_holder_that_answers_keeps_its_rank_though_the_store_has_lost_its_beat() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    holder = unit.agents[1].me.incarnation
    unit.kill(1)
    unit.elsewhere = {holder}  # it is cut off from the store, and answers
    del unit.store.board.beats[1]
    unit.create(1, ip="10.0.0.9")
    unit.wait(30)
    assert not unit.agents[1].joined


@pytest.mark.parametrize(("netns", "joins"), [("here", True), ("", False)])
def test_a_refusal_counts_only_from_ones_own_network_namespace(netns: str, joins: bool) -> None:
    """Where the kernel does not tell it, both are ""; that is no place that they share."""
    unit = Unit(2, guard=True, **CALM)
    unit.create(0)
    unit.create(1, netns=netns)
    unit.wait(2)
    unit.kill(1)
    unit.refusing = {1}
    unit.create(1, ip="10.0.0.9", netns=netns)
    unit.wait(4)
    assert unit.agents[1].joined is joins


def test_an_answer_that_was_read_a_minute_late_fences_nobody() -> None:
    unit = Unanswered(2, guard=True, **CALM)
    unit.formed()
    unit.kill(1)
    unit.wait(12)
    board, old = unit.store.board, unit.store.board.records[0]
    later = old.tenure + 10**15
    board.records[0] = replace(old, incarnation="rival", tenure=later, ip="10.9.9.9", netns="elsewhere")
    board.holders[0], board.beats[0] = "rival", (Beat("rival", 7), unit.now)
    unit.open = True
    unit.wait(1)
    assert unit.asked is not None
    assert unit.asked.incarnation == "rival"
    unit.now += 60  # rank 0 stands still; the rival has answered at once, and died
    unit.tell(0, Tick, 60.0)
    unit.tell(0, PeerAnswered, 0, "rival", ProbeResult.ALIVE, 1, False, False)
    unit.wait(2)
    assert unit.codes == {}


@pytest.mark.parametrize("wiped", [True, False])
def test_a_restart_is_followed_that_was_asked_of_a_store_that_has_just_gone_back(wiped: bool) -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    earlier = unit.store.copy()
    unit.crash(1)
    unit.wait(2)
    assert unit.generations() == {2}
    if wiped:
        unit.store.wipe()
    else:
        unit.store.restore(earlier)
    unit.order(OrderKind.RESTART)
    unit.wait(5)
    assert unit.generations() == {3}


def test_a_unit_of_one_starts_a_heartbeat_after_it_has_found_an_empty_store() -> None:
    unit = Unit(1, lease=60.0, heartbeat=30.0)
    unit.create(0)
    unit.wait(31)
    assert unit.take() == ["0 spawn 1"]


def test_a_newcomer_with_a_shorter_lease_waits_for_the_lease_of_the_holder() -> None:
    unit = Unit(2, guard=True, lease=60.0, heartbeat=20.0, **CALM).formed()
    unit.kill(1)
    unit.silent = {1}  # its machine is cut off, and runs its workload until its own lease is over
    unit.rules |= {"lease": 5.0, "heartbeat": 1.0}
    unit.create(1, ip="10.0.0.9")
    unit.wait(30)
    assert not unit.agents[1].joined


@pytest.mark.parametrize(
    "pair",
    [
        (5.0, 1.0),
        (60.0, 30.0),
        (3600.0, 1800.0),
    ],
)
def test_a_takeover_comes_after_isolation_by_clocks_that_differ(pair: tuple[float, float]) -> None:
    timing = Timing.of(*pair)
    stopped = timing.isolation * (1 + CLOCKS_DIFFER_BY)
    assert stopped <= timing.takeover * (1 - CLOCKS_DIFFER_BY)


def test_a_newcomer_with_a_shorter_lease_waits_for_a_holder_that_the_store_forgets() -> None:
    unit = Unit(2, guard=True, lease=60.0, heartbeat=20.0, **CALM).formed()
    unit.kill(1)
    unit.silent = {1}  # its machine is cut off, and runs its workload until its own lease is over
    unit.rules |= {"lease": 5.0, "heartbeat": 1.0}
    unit.create(1, ip="10.0.0.9")
    unit.wait(3)
    unit.store.wipe()
    unit.wait(30)
    assert not unit.agents[1].joined
    unit.wait(40)
    assert unit.agents[1].joined


@pytest.mark.parametrize("rival", ["a rival", "z rival"])
def test_a_newcomer_with_the_same_tenure_replaces_nobody_who_serves(rival: str) -> None:
    """The store was set back to before the first claim of that rank, and both claims are the first."""
    unit = Unit(3, guard=True).formed()
    board = unit.store.board
    old = board.records[2]
    idle = {"state": InstanceState.IDLE, "gang": "", "begun": 0}
    board.records[2] = replace(old, incarnation=rival, ip="10.9.9.9", netns="elsewhere", **idle)
    board.holders[2] = rival
    for count in range(1, 4):
        if board.holders[2] == rival:
            board.beats[2] = (Beat(rival, count), unit.now)
        unit.wait(1)
    assert unit.take() == []
    assert board.holders[2] == old.incarnation
    assert unit.ready() == {0, 1, 2}
