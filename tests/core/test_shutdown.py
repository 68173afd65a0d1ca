"""How a Unit ends, or goes on after being asked to: the exact sequence of what its agents do."""

from __future__ import annotations

from tests.core.unit import Unit
from unitagent.core.config import Mode
from unitagent.core.events import (
    Drained,
    Exchanged,
    HealthChecked,
    StopRequested,
)
from unitagent.core.model import Beat, Order, OrderKind

CALM = {"backoff": (0.0,)}


def test_a_job_is_done_when_all_ranks_are() -> None:
    unit = Unit(3, mode=Mode.JOB).formed()
    unit.crash(0, 0)
    unit.crash(1, 0)
    unit.wait(2)
    assert unit.codes == {}
    unit.crash(2, 0)
    unit.wait(1)
    assert unit.codes == {0: 0, 1: 0, 2: 0}
    assert unit.take()[-1] == "0 quit 0"  # rank 0 last: the store may be in its container


def test_a_job_restarts_as_a_whole_when_one_fails_after_others_are_done() -> None:
    unit = Unit(2, mode=Mode.JOB, guard=True, **CALM).formed()
    unit.crash(0, 0)
    unit.crash(1, 1)
    unit.wait(1)
    assert sorted(unit.take()) == ["0 spawn 2", "0 stop 5", "1 spawn 2", "1 stop 5"]


def test_a_drain_stops_rank_0_first() -> None:
    unit = Unit(3, guard=True, deregister=2.0, drain=5.0).formed()
    unit.tell(2, StopRequested)
    assert unit.ready() == set()
    assert unit.take() == []
    unit.wait(2)
    assert unit.take() == ["0 await drain"]
    unit.wait(2)
    assert unit.take() == []
    unit.tell(0, Drained)
    did = unit.take()
    assert did[0].startswith("0 stop")
    assert sorted(word.split()[0] for word in did if "stop" in word) == ["0", "1", "2"]
    unit.wait(1)
    assert unit.codes == {2: 0}
    assert {state.me.generation for state in unit.agents.values()} == {2}
    unit.create(2)
    unit.wait(1)
    assert unit.ready() == {0, 1, 2}


def test_a_rank_that_was_given_back_is_not_fenced_by_who_takes_it() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0).formed()
    unit.cut.add(1)
    unit.tell(0, StopRequested)
    unit.wait(0.5)
    assert unit.agents[0].me.has_left, "said farewell, and stays for rank 1, which may read it here"
    unit.store.board.holders[0] = "newcomer"
    unit.store.board.beats[0] = (Beat("newcomer", 1), unit.now)
    unit.wait(2)
    assert unit.codes == {0: 0}


def test_requests_that_never_end_do_not_hold_a_drain() -> None:
    unit = Unit(2, guard=True, deregister=1.0, drain=5.0).formed()
    unit.tell(0, StopRequested)
    unit.wait(5.75)
    assert unit.take() == ["0 await drain"]
    unit.wait(0.5)
    assert unit.take()[0].startswith("0 stop")


def test_without_guard_a_lone_instance_goes_alone() -> None:
    unit = Unit(3).formed()
    unit.tell(2, StopRequested)
    unit.wait(4)
    assert unit.take() == [], "rank 0 may be asked later than its followers"
    unit.wait(2)
    assert [word.split()[:2] for word in unit.take()] == [["2", "stop"], ["2", "quit"]]
    assert unit.codes == {2: 0}


def test_without_guard_followers_that_are_asked_seconds_earlier_stop_after_rank_0() -> None:
    unit = Unit(3, deregister=0.0, drain=0.0).formed()
    unit.tell(1, StopRequested)
    unit.wait(1.5)
    unit.tell(2, StopRequested)
    unit.wait(2)
    unit.tell(0, StopRequested)
    unit.wait(2)
    stops = [word.split()[0] for word in unit.take() if "stop" in word]
    assert stops[0] == "0"
    assert unit.codes == {0: 0, 1: 0, 2: 0}


def test_without_guard_a_rank_is_held_while_rank_0_drains() -> None:
    unit = Unit(2, deregister=3.0).formed()
    unit.tell(1, StopRequested)
    unit.tell(0, StopRequested)
    unit.wait(2)
    assert unit.take() == []
    unit.wait(2)
    unit.tell(0, Drained)
    unit.wait(1)
    stops = [word.split()[0] for word in unit.take() if "stop" in word]
    assert stops == ["0", "1"]
    assert unit.codes == {0: 0, 1: 0}


def test_a_second_signal_stops_at_once() -> None:
    unit = Unit(2, guard=True).formed()
    unit.tell(0, StopRequested)
    unit.wait(0.5)
    unit.tell(0, StopRequested)  # too soon: a terminal and a manager may both deliver the first one
    assert unit.take() == []
    unit.wait(1)
    unit.tell(0, StopRequested)
    assert unit.take()[0] == "0 stop 0"


def test_an_order_to_drain_counts_for_its_generation_only() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0).formed()
    unit.order(OrderKind.DRAIN)
    unit.wait(3)
    assert unit.codes == {0: 0, 1: 0}
    unit.create(0, 1)
    unit.wait(2)
    assert unit.ready() == {0, 1}


def test_without_guard_an_order_to_drain_waits_for_a_rank_0_that_hears_of_it_late() -> None:
    unit = Unit(2, deregister=0.0, drain=0.0).formed()
    unit.unread = {0: None}
    unit.order(OrderKind.DRAIN)
    unit.wait(8)
    assert unit.take() == []
    answer = unit.unread.pop(0)
    unit.tell(0, Exchanged, answer)
    unit.wait(2)
    assert [word.split()[0] for word in unit.take() if "stop" in word] == ["0", "1"]
    assert unit.codes == {0: 0, 1: 0}


def test_an_order_to_restart_what_has_yet_to_start_changes_nothing() -> None:
    unit = Unit(2, guard=True)
    unit.create(0)
    unit.order(OrderKind.RESTART)
    unit.wait(2)
    unit.create(1)
    unit.wait(2)
    assert sorted(unit.take()) == ["0 spawn 1", "1 spawn 1"]
    assert unit.ready() == {0, 1}


def test_an_order_to_restart_is_free_of_charge() -> None:
    unit = Unit(2, guard=True, max_restarts=0).formed()
    unit.order(OrderKind.RESTART)
    unit.wait(3)
    assert unit.ready() == {0, 1}
    assert unit.generations() == {2}


def test_a_job_that_was_stopped_is_not_done() -> None:
    """The others exit with 0 when they are told to end, and wait for the replacement all the same."""
    unit = Unit(2, guard=True, mode=Mode.JOB, deregister=0.0, drain=0.0).formed()
    unit.slow = {0, 1}
    unit.tell(1, StopRequested)
    unit.crash(0, 0)
    unit.finish(0)
    unit.wait(1)
    unit.crash(1, 0)
    unit.finish(1)
    unit.wait(2)
    assert unit.codes == {1: 0}
    unit.slow = set()
    unit.create(1)
    unit.wait(2)
    assert unit.generations() == {2}


def test_an_order_to_drain_reaches_who_is_rebuilt_meanwhile() -> None:
    unit = Unit(3, guard=True, deregister=0.0, drain=0.0, backoff=()).formed()
    unit.kill(1)
    unit.order(OrderKind.DRAIN)
    unit.create(1)
    unit.wait(20)
    assert unit.codes == {0: 0, 1: 0, 2: 0}
    unit.create(0, 1, 2)
    unit.wait(3)
    assert unit.ready() == {0, 1, 2}, "those who obeyed have left their successors nothing to obey"


def test_an_old_order_is_none_for_a_unit_that_is_started_anew() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0, backoff=()).formed()
    unit.kill(1)
    unit.order(OrderKind.DRAIN)
    unit.wait(10)
    unit.now += 3600
    unit.create(0, 1)
    unit.wait(10)
    assert unit.ready() == {0, 1}


def test_an_order_that_was_followed_is_none_for_any_later_life() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0, backoff=()).formed()
    unit.order(OrderKind.DRAIN)
    unit.wait(5)
    assert unit.codes == {0: 0, 1: 0}
    for _ in range(3):  # each life is the predecessor of the next
        unit.create(0, 1)
        unit.wait(3)
        assert unit.ready() == {0, 1}
        unit.kill(0)
        unit.kill(1)


def test_an_old_order_in_a_store_that_is_set_back_is_none_for_who_serves() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0, backoff=()).formed()
    unit.order(OrderKind.DRAIN)
    unit.wait(5)
    ancient = unit.store.copy()
    unit.store.wipe()
    unit.create(0, 1)
    unit.wait(10)
    assert unit.ready() == {0, 1}
    unit.take()
    unit.store.restore(ancient)
    unit.wait(10)
    assert unit.take() == []
    assert unit.ready() == {0, 1}


def test_who_waits_for_a_rank_does_not_follow_the_order_that_its_holder_follows() -> None:
    unit = Unit(1, owns_store=True, deregister=0.0, drain=0.0).formed()
    holder = unit.agents.pop(0)
    unit.create(0, ip="10.9.9.9")
    newcomer, unit.agents[0] = unit.agents[0], holder
    unit.order(OrderKind.DRAIN)
    unit.wait(3)
    assert unit.codes == {0: 0}
    unit.agents[0] = newcomer
    unit.wait(5)
    assert unit.ready() == {0}


def test_orders_are_numbered_above_all_that_agents_know_of() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0).formed()
    unit.now += 60  # the server's clock was ahead
    unit.order(OrderKind.RESTART)
    unit.wait(5)
    assert unit.generations() == {2}
    unit.store.wipe()
    unit.wait(2)
    assert unit.store.order(Order(kind=OrderKind.DRAIN, generation=0), 100.0)
    unit.wait(5)
    assert unit.codes == {0: 0, 1: 0}


def test_a_second_signal_gives_the_rank_back_all_the_same() -> None:
    unit = Unit(2, guard=True).formed()
    unit.slow = {0, 1}
    unit.tell(0, StopRequested)
    unit.wait(2)
    unit.tell(0, StopRequested)
    unit.finish(0)
    unit.wait(1)
    assert unit.codes == {0: 0}
    assert unit.store.board.records[0].has_left


def test_without_guard_and_without_the_store_a_follower_waits_for_rank_0_that_drains() -> None:
    """All are told to stop, as by ``docker compose down`` that has ended the store first."""
    unit = Unit(2, health=True, stop_grace=20.0, drain=8.0, deregister=2.0)
    unit.create(0, 1)
    unit.wait(2)
    unit.tell(0, HealthChecked, True, "")
    unit.wait(2)
    unit.cut = {0, 1}
    unit.wait(2)
    unit.take()
    unit.tell(1, StopRequested)
    unit.tell(0, StopRequested)
    unit.wait(6)
    assert unit.take() == ["0 await drain"]
    unit.wait(10)
    assert [did for did in unit.take() if "stop" in did] == ["0 stop 6", "1 stop 5"]
