"""The main stories of a Unit, each as the exact sequence of what its agents do."""

from __future__ import annotations

import pytest

from tests.core.unit import Unit
from unitagent.core.events import (
    Drained,
    HealthChecked,
    PeerHungUp,
    StopAsked,
    Tick,
    WorkloadStuck,
)
from unitagent.core.model import Mode, Order, OrderKind, Reason, Restart

CALM = {"backoff": (0.0,)}


def test_two_ranks_form_a_unit() -> None:
    unit = Unit(2)
    unit.create(0)
    unit.wait(3)
    assert unit.take() == []  # one of two: nothing starts
    unit.create(1)
    assert sorted(unit.take()) == ["0 spawn 1", "1 spawn 1"]
    assert unit.ready() == {0, 1}


def test_a_unit_of_one_is_a_unit_too() -> None:
    unit = Unit(1)
    unit.create(0)
    assert unit.take() == ["0 spawn 1"]
    assert unit.ready() == {0}


def test_all_ranks_get_the_same_table() -> None:
    unit = Unit(3).formed()
    gangs = {state.gang for state in unit.agents.values()}
    assert len(gangs) == 1
    gang = gangs.pop()
    assert gang is not None
    assert (gang.master_address, gang.master_port) == ("10.0.0.0", 20001)
    assert gang.ips == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(("code", "signal"), [(1, None), (0, None), (None, 9)])
def test_with_guard_any_exit_restarts_all_once(code: int | None, signal: int | None) -> None:
    unit = Unit(3, guard=True, **CALM).formed()
    unit.crash(2, code, signal)
    did = unit.take()
    assert did[0] == "2 stop 5"
    assert sorted(did) == sorted(
        [f"{rank} stop 5" for rank in range(3)] + [f"{rank} spawn 2" for rank in range(3)]
    )
    assert max(did.index(f"{rank} stop 5") for rank in range(3)) < min(
        did.index(f"{rank} spawn 2") for rank in range(3)
    )
    unit.wait(2)
    assert unit.ready() == {0, 1, 2}
    assert {len(state.restarts) for state in unit.agents.values()} == {1}


def test_failures_together_make_one_generation() -> None:
    unit = Unit(3, guard=True, **CALM).formed()
    unit.slow = {0, 1, 2}
    for rank in range(3):
        unit.crash(rank)
    for rank in range(3):
        unit.finish(rank)
    unit.wait(2)
    assert unit.generations() == {2}
    assert {len(state.restarts) for state in unit.agents.values()} == {1}


def test_the_first_failure_is_the_one_kept() -> None:
    unit = Unit(3, guard=True, **CALM).formed()
    unit.crash(2, 7)
    unit.wait(1)
    unit.crash(1, 8)
    unit.wait(1)
    failures = {(f.generation, f.rank, f.exit_code) for s in unit.agents.values() if (f := s.failure)}
    assert failures == {(2, 1, 8)}


def test_no_workload_starts_while_an_old_process_lives() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    unit.slow = {1}
    unit.crash(0)
    unit.wait(4)
    assert unit.take() == ["0 stop 5", "1 stop 5"]
    unit.finish(1)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2"]


def test_the_pause_before_a_restart_grows() -> None:
    unit = Unit(2, guard=True, backoff=(0.0, 3.0)).formed()
    unit.crash(0)
    assert "0 spawn 2" in unit.take()
    unit.wait(1)
    unit.crash(0)
    unit.wait(2)
    assert "0 spawn 3" not in unit.take()
    unit.wait(2)
    assert "0 spawn 3" in unit.take()


def test_a_rebuilt_instance_restarts_all_with_guard() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    unit.kill(1)
    unit.create(1)
    unit.wait(1)
    did = unit.take()
    assert did[0] == "0 stop 5"
    assert sorted(did[1:]) == ["0 spawn 2", "1 spawn 2"]
    failure = unit.agents[0].failure
    assert failure is not None
    assert (failure.generation, failure.rank, failure.reason) == (1, 1, Reason.REPLACED)


def test_a_hang_up_and_a_refusal_are_a_loss_at_once() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    unit.kill(1)
    unit.tell(0, PeerHungUp, 1, "i2")
    assert unit.take() == ["0 stop 5"]
    failure = unit.agents[0].failure
    assert failure is not None
    assert failure.reason is Reason.LOST


def test_a_silent_peer_is_lost_after_its_lease() -> None:
    unit = Unit(2, guard=True, **CALM).formed()
    unit.cut = unit.silent = {1}
    unit.wait(4)
    assert unit.take() == []
    unit.wait(3)
    assert "0 stop 5" in unit.take()


def test_a_peer_without_the_store_that_answers_is_not_lost() -> None:
    unit = Unit(3, guard=True).formed()
    unit.cut = {2}
    unit.wait(30)
    assert unit.take() == []
    assert unit.ready() == {0, 1, 2}


def test_an_outage_of_the_store_changes_nothing() -> None:
    unit = Unit(3, guard=True).formed()
    unit.cut = {0, 1, 2}
    unit.wait(30)
    unit.store.wipe()
    unit.cut = set()
    unit.wait(10)
    assert unit.take() == []
    assert unit.ready() == {0, 1, 2}
    assert unit.generations() == {1}


def test_a_crash_while_the_store_is_away_turns_readiness_off_and_restarts_all_later() -> None:
    unit = Unit(3, guard=True, **CALM).formed()
    unit.cut = {0, 1, 2}
    unit.wait(1)
    unit.crash(2)
    unit.wait(3)
    assert unit.ready() == set()
    assert unit.take() == ["2 stop 5"]
    unit.cut = set()
    unit.wait(2)
    assert unit.generations() == {2}
    assert unit.ready() == {0, 1, 2}


def test_an_isolated_instance_stops_at_once_and_comes_back() -> None:
    unit = Unit(3, guard=True, **CALM).formed()
    unit.cut = unit.silent = {2}
    unit.wait(7)
    assert "2 stop 0" in unit.take()
    unit.cut, unit.silent = set(), set()
    unit.wait(3)
    assert unit.generations() == {2}
    assert unit.ready() == {0, 1, 2}


def test_a_newcomer_waits_for_a_living_holder() -> None:
    unit = Unit(2).formed()
    holder = unit.agents.pop(1)
    unit.create(1, ip="10.0.0.9")
    for _ in range(40):
        newcomer, unit.agents[1] = unit.agents[1], holder
        unit.wait(0.5)
        holder, unit.agents[1] = unit.agents[1], newcomer
        unit.tell(1, Tick)
        assert not unit.agents[1].joined
    assert any("rank 1 of Unit u is held by another instance" in text for text in unit.said)


def test_who_lost_its_rank_is_fenced() -> None:
    unit = Unit(2).formed()
    old = unit.agents.pop(1)
    unit.create(1)
    unit.wait(10)
    assert unit.agents[1].joined
    unit.agents[1] = old
    unit.wait(2)
    assert unit.take()[-2:] == ["1 stop 0", "1 quit 76"]


def test_without_guard_a_failure_is_its_own() -> None:
    unit = Unit(3).formed()
    unit.crash(1, 3)
    assert unit.take() == ["1 stop 5", "1 quit 3"]
    unit.wait(2)
    assert unit.ready() == set()
    unit.create(1)
    unit.wait(3)
    assert unit.take() == ["1 spawn 1"]
    assert unit.ready() == {0, 1, 2}


def test_without_guard_an_unasked_exit_0_becomes_1() -> None:
    unit = Unit(2).formed()
    unit.crash(1, 0)
    assert unit.take() == ["1 stop 5", "1 quit 1"]


def test_without_guard_a_rebuilt_rank_0_ends_the_others_with_75() -> None:
    unit = Unit(3).formed()
    unit.kill(0)
    unit.wait(2)
    assert unit.take() == []
    unit.create(0)
    unit.wait(2)
    assert sorted(unit.take()) == ["1 quit 75", "1 stop 5", "2 quit 75", "2 stop 5"]
    unit.create(1, 2)
    unit.wait(1)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2", "2 spawn 2"]


def test_a_rank_rebuilt_while_rank_0_is_away_waits_for_it() -> None:
    unit = Unit(2).formed()
    unit.kill(0)
    unit.crash(1)
    unit.create(1)
    unit.wait(4)
    assert unit.take() == ["1 stop 5", "1 quit 1"]
    unit.create(0)
    unit.wait(3)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2"]


def test_the_budget_ends_all_with_70() -> None:
    unit = Unit(2, guard=True, max_restarts=1, **CALM).formed()
    unit.crash(1)
    unit.wait(1)
    unit.crash(1)
    unit.wait(2)
    assert unit.codes == {0: 70, 1: 70}


def test_recreate_ends_all_with_75() -> None:
    unit = Unit(2, guard=True, restart=Restart.RECREATE).formed()
    unit.crash(1)
    unit.wait(2)
    assert unit.codes == {0: 75, 1: 75}
    unit.create(0, 1)
    assert sorted(unit.take()[-2:]) == ["0 spawn 2", "1 spawn 2"]


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
    unit.tell(2, StopAsked)
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


def test_requests_that_never_end_do_not_hold_a_drain() -> None:
    unit = Unit(2, guard=True, deregister=1.0, drain=5.0).formed()
    unit.tell(0, StopAsked)
    unit.wait(5.75)
    assert unit.take() == ["0 await drain"]
    unit.wait(0.5)
    assert unit.take()[0].startswith("0 stop")


def test_without_guard_a_lone_instance_goes_alone() -> None:
    unit = Unit(3).formed()
    unit.tell(2, StopAsked)
    unit.wait(3)
    assert [word.split()[:2] for word in unit.take()] == [["2", "stop"], ["2", "quit"]]
    assert unit.codes == {2: 0}


def test_without_guard_a_rank_is_held_while_rank_0_drains() -> None:
    unit = Unit(2, deregister=3.0).formed()
    unit.tell(1, StopAsked)
    unit.tell(0, StopAsked)
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
    unit.tell(0, StopAsked)
    unit.wait(0.5)
    unit.tell(0, StopAsked)  # too soon: a terminal and a manager may both deliver the first one
    assert unit.take() == []
    unit.wait(1)
    unit.tell(0, StopAsked)
    assert unit.take()[0] == "0 stop 0"


def test_an_order_to_drain_counts_for_its_generation_only() -> None:
    unit = Unit(2, guard=True, deregister=0.0, drain=0.0).formed()
    unit.store.board.order = Order(kind=OrderKind.DRAIN, generation=1)
    unit.wait(3)
    assert unit.codes == {0: 0, 1: 0}
    unit.create(0, 1)
    unit.wait(2)
    assert unit.ready() == {0, 1}


def test_an_order_to_restart_is_free_of_charge() -> None:
    unit = Unit(2, guard=True, max_restarts=0).formed()
    unit.store.board.order = Order(kind=OrderKind.RESTART, generation=1)
    unit.wait(3)
    assert unit.ready() == {0, 1}
    assert unit.generations() == {2}


def test_ranks_that_count_the_unit_differently_end_with_77() -> None:
    unit = Unit(3)
    unit.create(0)
    unit.wait(2)
    unit.create(1, size=2)
    unit.wait(3)
    assert unit.codes == {1: 77}


def test_strict_ranks_that_differ_end_with_77() -> None:
    unit = Unit(2, strict=True)
    unit.create(0, fingerprint="command=aa")
    unit.create(1, fingerprint="command=bb")
    unit.wait(2)
    assert 77 in unit.codes.values()
    assert any("rank 1: command" in text for text in unit.said)


def test_revisions_wait_for_each_other() -> None:
    unit = Unit(2)
    unit.create(0, revision="a")
    unit.create(1, revision="b")
    unit.wait(10)
    assert unit.take() == []
    assert any("has revision b, this is a" in text for text in unit.said)


def test_a_barrier_can_time_out() -> None:
    unit = Unit(2, barrier_timeout=5.0)
    unit.create(0)
    unit.wait(7)
    assert unit.codes == {0: 124}


def test_a_store_that_was_never_reached_ends_with_69() -> None:
    unit = Unit(2, store_timeout=5.0)
    unit.cut = {0}
    unit.create(0)
    unit.wait(6)
    assert unit.codes == {0: 69}


def test_what_cannot_be_killed_ends_with_75() -> None:
    unit = Unit(2, guard=True).formed()
    unit.slow = {1}
    unit.crash(1)
    unit.tell(1, WorkloadStuck, "process 7 is in uninterruptible sleep")
    assert unit.codes == {1: 75}


def test_rank_0_is_ready_when_its_health_check_passes() -> None:
    unit = Unit(2, health=True, guard=True, **CALM)
    unit.create(0, 1)
    unit.wait(1)
    assert unit.ready() == set()
    unit.tell(0, HealthChecked, True)
    unit.wait(1)
    assert unit.ready() == {0, 1}
    unit.tell(0, HealthChecked, False, "timed out")
    failure = unit.agents[0].failure
    assert failure is not None
    assert failure.reason is Reason.UNHEALTHY
    assert unit.generations() == {2}


def test_a_start_that_takes_too_long_has_failed() -> None:
    unit = Unit(2, health=True, guard=True, startup=5.0, **CALM)
    unit.create(0, 1)
    unit.wait(6)
    failure = unit.agents[1].failure
    assert failure is not None
    assert failure.reason is Reason.STARTUP_TIMEOUT
    assert unit.generations() == {2}
