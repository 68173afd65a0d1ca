"""Keepers outlive the generations of the workload, start together, and end last."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from tests.core.unit import Unit
from unitagent.core.barrier import explain_missing
from unitagent.core.events import KeeperStale, StopRequested
from unitagent.core.model import OrderKind, Phase, Reason, Record
from unitagent.core.status import build_status, find_phase

KEPT: dict[str, Any] = {"guard": True, "keepers": True, "backoff": (0.0,)}


def _form(size: int = 2, **rules: Any) -> Unit:
    return Unit(size, **{**KEPT, **rules}).formed()


def test_keepers_start_in_a_generation_of_their_own_and_the_workload_in_the_next() -> None:
    unit = Unit(2, **KEPT)
    unit.loading = {0, 1}
    unit.create(0, 1)
    assert sorted(unit.take()) == ["0 keep 1", "1 keep 1"]
    unit.load(0)
    unit.wait(3)
    assert unit.take() == [], "one of two keepers is not ready"
    status = build_status(unit.agents[0])
    assert status["phase"] == Phase.FORMING
    assert status["keeper"]["state"] == "ready"
    assert status["keeper"]["not_ready"] == [1]
    assert "keepers of rank 1 are not ready" in status["conditions"][0]["message"]
    unit.load(1)
    unit.wait(1)
    assert sorted(unit.take()) == ["0 spawn 2", "1 spawn 2"]
    assert unit.ready() == {0, 1}
    assert {state.me.restarts for state in unit.agents.values()} == {0}
    assert all(not state.me.charges for state in unit.agents.values())


def test_the_workload_and_its_keepers_have_different_ports() -> None:
    unit = _form()
    state = unit.agents[1]
    assert state.keeper.gang is not None
    assert state.workload.gang is not None
    assert (state.keeper.gang.master_port, state.workload.gang.master_port) == (20001, 20002)
    assert state.workload.gang.keepers == state.keeper.gang.id


def test_keepers_of_files_that_have_changed_start_again_with_the_next_restart() -> None:
    unit = _form()
    unit.tell(1, KeeperStale, "a file has changed")
    unit.wait(5)
    assert unit.take() == [], "the Unit runs on"
    assert build_status(unit.agents[1])["keeper"]["stale"] == "a file has changed"
    unit.crash(0)
    unit.wait(2)
    did = unit.take()
    assert {one for one in did if "keeper" in one} == {"0 end keeper 5", "1 end keeper 5"}
    assert sorted(one for one in did if "keep " in one) == ["0 keep 4", "1 keep 4"]
    assert unit.ready() == {0, 1}
    assert {(state.me.restarts, len(state.me.charges)) for state in unit.agents.values()} == {(1, 1)}
    assert build_status(unit.agents[1])["keeper"]["stale"] is None


def test_a_keeper_ends_when_another_instance_took_its_rank() -> None:
    unit = _form(probes=False)
    unit.cut = {1}
    unit.crash(1)
    unit.rival(1, beats=1)
    unit.wait(2)
    assert "1 end keeper 5" not in unit.take()
    unit.cut = set()
    unit.wait(2)
    assert "1 end keeper 5" in unit.take()
    assert any("the keeper is stopped: another instance holds rank 1" in text for text in unit.said)


def test_keepers_outlive_a_restart_of_the_workload() -> None:
    unit = _form()
    unit.crash(1)
    unit.wait(1)
    assert sorted(unit.take()) == ["0 spawn 3", "0 stop 5", "1 spawn 3", "1 stop 5"]
    assert unit.ready() == {0, 1}


def test_a_replaced_machine_restarts_all_keepers_and_the_newcomer_waits_for_the_others_to_end() -> None:
    unit = _form(3)
    unit.slow_keepers = {0}
    unit.kill(2)
    unit.create(2, ip="10.0.0.9", netns="other")
    unit.wait(9)
    did = unit.take()
    assert sorted(did) == ["0 end keeper 5", "0 stop 5", "1 end keeper 5", "1 stop 5"]
    unit.finish_keeper(0)
    unit.wait(2)
    generation = unit.generations().pop()
    expected = [f"{rank} keep {generation - 1}" for rank in range(3)]
    assert sorted(unit.take()) == sorted(expected + [f"{rank} spawn {generation}" for rank in range(3)])
    assert unit.ready() == {0, 1, 2}


def test_keepers_that_make_way_for_a_newcomer_wait_for_no_heartbeat() -> None:
    unit = _form(3, lease=60.0, heartbeat=20.0)
    unit.slow_keepers = {0}
    unit.kill(2)
    unit.wait(30)
    unit.create(2, netns="of 10.0.0.2")
    unit.wait(1)
    assert "0 end keeper 5" in unit.take(), "it sees the newcomer at once"
    unit.finish_keeper(0)
    unit.wait(1)
    assert {one.split()[1] for one in unit.take()} >= {"keep", "spawn"}, "all see at once that it has ended"
    assert unit.ready() == {0, 1, 2}


@pytest.mark.parametrize("relaunch", [False, True])
def test_a_keeper_that_dies_restarts_the_unit_or_is_replaced_with_the_next_restart(relaunch: bool) -> None:
    unit = _form(relaunch=relaunch)
    unit.crash_keeper(1)
    unit.wait(1)
    if relaunch:
        assert unit.take() == ["1 end keeper 0"]
        assert any("the keeper has ended; the workload runs on" in text for text in unit.said)
        assert unit.ready() == {0, 1}
        unit.crash(0)
        unit.wait(1)
    did, first = unit.take(), [] if relaunch else ["1 end keeper 0"]
    assert sorted(did) == sorted(
        [*first, "0 stop 5", "1 stop 5", "0 end keeper 5", "0 keep 3", "1 keep 3", "0 spawn 4", "1 spawn 4"]
    )
    assert unit.ready() == {0, 1}
    assert {len(state.me.charges) for state in unit.agents.values()} == {1}


def test_a_keeper_that_dies_while_it_loads_is_a_failure_whatever_the_policy() -> None:
    unit = Unit(2, **{**KEPT, "relaunch": True})
    unit.loading = {0, 1}
    unit.create(0, 1)
    unit.take()
    unit.crash_keeper(0)
    unit.wait(3)
    assert sorted(unit.take()) == ["0 end keeper 0", "0 keep 2", "1 end keeper 5", "1 keep 2"]
    failure = unit.agents[1].recovery.failure
    assert failure is not None
    assert (failure.reason, failure.rank, failure.exit_code) == (Reason.EXIT, 0, 1)
    assert "rank 0 (10.0.0.0): its keeper exited with code 1" in failure.sentence
    assert {len(state.me.charges) for state in unit.agents.values()} == {1}


def test_a_keeper_that_never_is_ready_spends_the_budget() -> None:
    unit = Unit(2, **{**KEPT, "startup": 3.0, "max_restarts": 2})
    unit.loading = {1}
    unit.create(0, 1)
    unit.wait(30)
    assert unit.codes == {0: 70, 1: 70}
    assert any("rank 1 (10.0.0.1): its keeper was not ready within 3 s" in text for text in unit.said)
    assert sum("keep " in did for did in unit.take()) == 6


def test_a_keeper_that_dies_at_the_barrier_spends_the_budget() -> None:
    unit = _form(max_restarts=2)
    unit.slow = {0}
    for _ in range(4):
        unit.crash(0)
        unit.wait(1)
        if 1 not in unit.agents:
            break
        unit.crash_keeper(1)
        unit.finish(0)
        unit.wait(2)
    unit.finish(0)
    unit.wait(8)
    assert unit.codes == {0: 70, 1: 70}


def test_a_drain_ends_the_keepers_last() -> None:
    unit = _form()
    unit.order(OrderKind.DRAIN)
    unit.wait(30)
    did = unit.take()
    assert unit.codes == {0: 0, 1: 0}
    for rank in (0, 1):
        mine = [word.split()[1] for word in did if word.startswith(f"{rank} ")]
        assert mine[-3:] == ["stop", "end", "quit"]


def test_who_is_not_asked_ends_its_keeper_when_a_member_has_left() -> None:
    unit = _form()
    unit.tell(1, StopRequested)
    unit.wait(30)
    assert unit.codes == {1: 0}
    assert unit.take()[-1] == "0 end keeper 5"


def test_a_second_signal_kills_the_keeper_too() -> None:
    unit = Unit(2, **KEPT)
    unit.loading = {0, 1}
    unit.create(0, 1)
    unit.slow_keepers = {0}
    unit.tell(0, StopRequested)
    unit.wait(2)
    unit.tell(0, StopRequested)
    assert [did for did in unit.take() if did.startswith("0 end")] == ["0 end keeper 25", "0 end keeper 0"]


def test_who_is_isolated_ends_its_keeper_at_once_also_at_a_barrier() -> None:
    unit = _form(3)
    unit.slow = {0}
    unit.crash(1)
    unit.wait(1)
    unit.take()
    unit.cut, unit.silent = {2}, {2}
    unit.wait(8)
    assert [did for did in unit.take() if did.startswith("2 ")] == ["2 end keeper 0"]


def test_an_outage_of_the_store_ends_no_keeper() -> None:
    unit = _form(3)
    unit.cut = {0, 1, 2}
    unit.wait(20)
    assert unit.take() == []
    unit.cut = set()
    unit.store.wipe()
    unit.wait(5)
    assert unit.take() == []
    assert unit.ready() == {0, 1, 2}


def test_a_rank_without_a_keeper_is_named() -> None:
    unit = Unit(2, **KEPT)
    unit.create(0)
    unit.rules = {**KEPT, "keepers": False}
    unit.create(1)
    unit.wait(8)
    assert unit.take() == []
    assert any("rank 1 without UNIT_KEEPER" in text for text in unit.said)
    assert all("rank 1 without UNIT_KEEPER" in explain_missing(state) for state in unit.agents.values())


def test_without_keepers_a_record_is_no_longer() -> None:
    record = Record(rank=0, incarnation="i", size=1, ip="10.0.0.1", port=1)
    assert record.keeper is UNSET
    assert b"keeper" not in msgspec.json.encode(record)
    assert find_phase(Unit(1).formed().agents[0]) is Phase.RUNNING
