"""A failure as one sentence: when, who, how, and who went down with it."""

from __future__ import annotations

import pytest

from tests.core.unit import Unit
from unitagent.core.events import StopRequested
from unitagent.core.model import Failure, OrderKind, Reason
from unitagent.core.status import build_status
from unitagent.core.summary import summarize


def failure(**changes: object) -> Failure:
    known: dict[str, object] = {"generation": 4, "rank": 3, "ip": "10.0.0.7", "reason": Reason.SIGNAL}
    return Failure(**{**known, "detail": "rank 3 (10.0.0.7) was killed", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (failure(stops=4), "generation 4 ended: rank 3 (10.0.0.7) was killed; ranks 0, 1, 2 stopped"),
        (failure(stops=2, rank=1), "generation 4 ended: rank 3 (10.0.0.7) was killed; rank 0 stopped"),
        (failure(stops=100), "generation 4 ended: rank 3 (10.0.0.7) was killed; 99 other ranks stopped"),
        (failure(stops=1, rank=0), "generation 4 ended: rank 3 (10.0.0.7) was killed"),
        (failure(), "generation 4: rank 3 (10.0.0.7) was killed"),
        (failure(rank=0), "generation 4 ended: rank 3 (10.0.0.7) was killed"),
        (
            failure(stops=2, rank=1, reason=Reason.REQUESTED, detail="a restart was requested"),
            "generation 4 ended: a restart was requested; ranks 0, 1 stopped",
        ),
    ],
)
def test_the_sentence(found: Failure, sentence: str) -> None:
    assert found.sentence == sentence


def details(unit: Unit) -> set[str]:
    shown = map(build_status, unit.agents.values())
    return {(told["failure"] or told["last_order"])["detail"] for told in shown}


def test_with_guard_all_others_stop() -> None:
    unit = Unit(3, guard=True, backoff=(0.0,)).formed()
    unit.crash(2, 7)
    unit.wait(1)
    sentence = "generation 1 ended: rank 2 (10.0.0.2) exited with code 7; ranks 0, 1 stopped"
    assert details(unit) == {sentence}
    assert unit.said.count(sentence) == 3


def test_without_guard_nobody_else_does() -> None:
    unit = Unit(3).formed()
    unit.crash(2, 7)
    unit.wait(1)
    assert details(unit) == {"generation 1: rank 2 (10.0.0.2) exited with code 7"}


def test_without_guard_all_stop_when_it_was_asked_for_or_rank_0_was_rebuilt() -> None:
    unit = Unit(2).formed()
    unit.order(OrderKind.RESTART, "new weights")
    unit.wait(3)
    sentence = "generation 1 ended: a restart was requested: new weights; ranks 0, 1 stopped"
    assert details(unit) == {sentence}
    unit.kill(0)
    unit.create(0)
    unit.wait(1)
    failure = unit.agents[0].recovery.failure
    assert failure is not None
    assert failure.sentence == "generation 2 ended: rank 0 (10.0.0.0) was rebuilt; rank 1 stopped"


def test_who_was_cut_off_says_who_did_not_answer_and_since_when() -> None:
    unit = Unit(2, guard=True, backoff=(0.0,), epoch=43200.0).formed()  # noon; the unit's clock began at 100
    unit.cut = {0, 1}
    unit.wait(3)
    unit.kill(1)
    unit.silent = {1}
    unit.wait(8)
    silence = "no answer from the store since 12:01:42 UTC, nor from rank 1 (10.0.0.1) since 12:01:4"
    assert any(said.startswith(f"cut off, {silence}") for said in unit.said)
    seen = build_status(unit.agents[0])
    assert f": {silence}" in summarize(seen, unit.now + 43200)["message"]
    assert [one["state"] for one in seen["instances"]] == ["waiting", "lost"]
    unit.cut, unit.silent = set(), set()
    unit.wait(2)
    (told,) = details(unit)
    assert told.startswith(f"generation 1 ended: rank 0 (10.0.0.0) was cut off: {silence}")


def test_who_was_cut_off_after_all_others_have_left_says_so() -> None:
    unit = Unit(2).formed()
    unit.tell(1, StopRequested)
    unit.wait(8)
    unit.cut, unit.silent = {0}, {0}
    unit.wait(8)
    assert any("UTC, and no other rank is left to ask: the workload is stopped" in said for said in unit.said)
