"""What probes and ``/status`` say: the keys that others rely on, and the answers of a Unit's life."""

from __future__ import annotations

import json
from typing import Any

from tests.core.unit import Unit
from unitagent.core import probe_answers
from unitagent.core.config import Mode
from unitagent.core.events import StopRequested
from unitagent.core.probe_paths import PROBES, PROBES_BY_PATH, PROBES_BY_WORD
from unitagent.core.status import build_status

KEYS = {
    "unit", "size", "guard", "phase", "generation", "restarts", "master_address", "master_port", "ready",
    "traffic", "draining", "failure", "store", "instances", "recovery", "conditions", "last_order", "budget",
    "pause", "keeper",
}  # fmt: skip
FAILURE = {"generation", "rank", "reason", "detail", "exit_code", "signal", "at"}
INSTANCE = {
    "rank", "incarnation", "ip", "port", "hostname", "state", "generation", "pid", "exit_code",
    "lease_seconds",
}  # fmt: skip
RECOVERY = {"detect", "stop", "barrier", "start", "ready", "total"}


def told(unit: Unit, rank: int = 0) -> dict[str, Any]:
    return dict(json.loads(json.dumps(build_status(unit.agents[rank]))))


def test_every_key_is_there_before_anything_happened() -> None:
    unit = Unit(2)
    unit.create(0)
    now = told(unit)
    assert now.keys() == KEYS
    assert set(now["recovery"]) == RECOVERY
    assert set(now["recovery"].values()) == {None}
    assert set(now["store"]) == {"connected", "since"}
    assert [set(one) for one in now["instances"]] == [INSTANCE, INSTANCE]
    assert (now["phase"], now["failure"], now["ready"]) == ("forming", None, False)
    assert [one["state"] for one in now["instances"]] == ["idle", "waiting"]


def test_a_running_unit() -> None:
    now = told(Unit(2, guard=True).formed(), 1)
    assert (now["phase"], now["ready"], now["traffic"], now["draining"]) == ("running", True, False, False)
    assert (now["master_address"], now["master_port"], now["generation"]) == ("10.0.0.0", 20001, 1)
    assert [one["state"] for one in now["instances"]] == ["healthy", "running"]
    assert told(Unit(1).formed())["traffic"]


def test_a_failure_is_kept_and_its_recovery_timed() -> None:
    unit = Unit(2, guard=True, backoff=(0.0,)).formed()
    unit.slow = {0, 1}
    unit.crash(1, None, 9)
    unit.wait(1)
    assert told(unit)["phase"] == "restarting"
    unit.finish(0)
    unit.finish(1)
    unit.wait(1)
    now = told(unit)
    assert set(now["failure"]) == FAILURE
    assert (now["failure"]["reason"], now["failure"]["signal"], now["failure"]["rank"]) == ("signal", 9, 1)
    assert (now["phase"], now["restarts"]) == ("running", 1)
    spans = [now["recovery"][name] for name in ("detect", "stop", "barrier", "start", "ready")]
    assert all(span is not None and span >= 0 for span in spans)
    assert now["recovery"]["total"] == round(sum(spans), 3)
    assert now["recovery"]["stop"] == 1.0


def test_the_states_of_an_end() -> None:
    unit = Unit(2, guard=True, deregister=5.0).formed()
    unit.tell(1, StopRequested)
    assert told(unit)["phase"] == "draining"
    assert told(unit)["draining"]
    done = Unit(2, mode=Mode.JOB).formed()
    done.crash(0, 0)
    assert told(done)["phase"] == "running"


def test_a_lost_rank_is_shown_as_lost() -> None:
    unit = Unit(3).formed()
    unit.cut = unit.silent = {2}
    unit.wait(7)
    assert [one["state"] for one in told(unit)["instances"]] == ["healthy", "running", "lost"]
    assert told(unit)["instances"][2]["lease_seconds"] > 5


def the_store(unit: Unit, rank: int = 0) -> dict[str, Any]:
    *_, told_of_store = told(unit, rank)["conditions"]
    assert list(told_of_store) == ["type", "status", "reason", "message", "since"]
    return dict(told_of_store)


def test_a_store_that_is_gone_is_told_with_what_happens_next() -> None:
    unit = Unit(3, guard=True, epoch=1000.0).formed()
    assert (the_store(unit)["status"], the_store(unit)["since"]) == ("True", 1100.0)
    unit.cut = {0, 1, 2}
    unit.wait(2)
    gone = the_store(unit, 1)
    assert (gone["status"], gone["reason"]) == ("False", "StoreSilent")
    assert 1101.0 <= gone["since"] <= 1102.0
    assert gone["message"] == (
        "the store does not answer (cut); the Unit continues; this instance only stops its workload if it "
        "also loses rank 0 for 5 s (UNIT_LEASE_SECONDS)"
    )
    assert "if it also loses all other ranks for 5 s" in the_store(unit)["message"]
    unit.silent = {0, 1, 2}
    unit.wait(8)
    assert "the workload was stopped, and starts when the store is back" in the_store(unit)["message"]


def test_without_the_store_an_answer_is_a_sign_of_life() -> None:
    unit = Unit(3, guard=True).formed()
    unit.cut = {0, 1, 2}
    unit.wait(60)
    for one in build_status(unit.agents[0])["instances"]:
        assert one["lease_seconds"] < 5, one


def test_a_store_that_nobody_has_reached_yet_and_one_that_a_unit_of_one_has_lost() -> None:
    unit = Unit(1)
    unit.cut = {0}
    unit.create(0)
    assert (
        the_store(unit)["message"]
        == "the store has not been reached yet (cut); nothing is started before it is there"
    )
    alone = Unit(1).formed()
    alone.cut = {0}
    alone.wait(8)
    goes_on = "the store does not answer (cut); the Unit continues without it, and nothing new is started"
    assert the_store(alone)["message"] == goes_on


def test_readyz_is_the_same_on_every_rank() -> None:
    unit = Unit(3, guard=True, backoff=(0.0,)).formed()
    answers = {probe_answers.answer_readyz(state).code for state in unit.agents.values()}
    assert answers == {200}
    unit.slow = {0, 1, 2}
    unit.crash(2)
    assert {probe_answers.answer_readyz(state).code for state in unit.agents.values()} == {503}


def test_a_large_unit_without_guard_knows_of_a_lost_rank_everywhere() -> None:
    """Each rank reads the beats of a few others only, and nobody restarts."""
    unit = Unit(40).formed()
    unit.kill(20)
    unit.silent = {20}
    unit.wait(8)
    assert unit.ready() == set()
    instances = build_status(unit.agents[5])["instances"]
    assert [one["rank"] for one in instances if one["state"] == "lost"] == [20]
    unit.silent = set()
    unit.create(20)
    unit.wait(10)
    assert unit.ready() == set(range(40))


def test_traffic_is_rank_0s() -> None:
    unit = Unit(2, guard=True, deregister=5.0).formed()
    assert [probe_answers.answer_traffic(unit.agents[rank]).code for rank in (0, 1)] == [200, 404]
    unit.tell(1, StopRequested)
    assert [probe_answers.answer_traffic(unit.agents[rank]).code for rank in (0, 1)] == [404, 404]


def test_traffic_that_is_not_ready_yet_may_come_back() -> None:
    unit = Unit(2, health=True)
    unit.create(0, 1)
    assert probe_answers.answer_traffic(unit.agents[0]).code == 503


def test_startupz_stays_once_ready() -> None:
    unit = Unit(2, guard=True)
    unit.create(0)
    assert probe_answers.answer_startupz(unit.agents[0]).code == 503
    unit.create(1)
    unit.wait(2)
    unit.slow = {0, 1}
    unit.crash(1)
    assert probe_answers.answer_startupz(unit.agents[0]).code == 200
    assert probe_answers.answer_livez(unit.agents[0]).code == 200


def test_each_refusal_says_why() -> None:
    unit = Unit(2)
    unit.create(0)
    answer = probe_answers.answer_readyz(unit.agents[0])
    assert all(check.reason for check in answer.checks if not check.ok)


def test_each_probe_has_a_rule_and_words_and_paths_of_its_own() -> None:
    state = Unit(1).formed().agents[0]
    for probe in PROBES:
        assert getattr(probe_answers, probe.rule)(state).checks
    assert len(PROBES_BY_WORD) == len({probe.rule for probe in PROBES}) == len(PROBES)
    assert len(PROBES_BY_PATH) == sum(len(probe.paths) for probe in PROBES)
