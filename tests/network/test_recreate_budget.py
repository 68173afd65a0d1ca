"""The restart budget of a Unit whose containers are rebuilt at each failure: all remember it."""

from __future__ import annotations

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.network.platform import Platform

FAILS = ("only=1", "after=0.3", "exits=3")
BUDGET = {"UNIT_RESTART": "recreate", "UNIT_MAX_RESTARTS": 2, "UNIT_BACKOFF_SECONDS": "0"}
SPENT = [75, 75, 70]  # two restarts, and then no more


def pauses(lab: Lab) -> list[float]:
    """From the last end of each generation to the first start of the next."""
    found = []
    for generation in lab.generations()[1:]:
        lives = [life for life in lab.watcher.lives() if life.main]
        ends = [life.died or 0.0 for life in lives if life.generation == generation - 1]
        found.append(min(life.born for life in lives if life.generation == generation) - max(ends))
    return found


@pytest.mark.slow
def test_all_give_up_after_as_many_restarts_as_are_allowed(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    with Platform(lab) as platform:
        lab.start_all(*FAILS, **BUDGET)
        platform.given_up((0, 1))
    assert platform.codes == {0: SPENT, 1: SPENT}
    assert lab.generations() == [1, 2, 3]
    assert all(lab.agents[host].said("exit 70", "exhausted") for host in (0, 1))


@pytest.mark.slow
def test_the_pause_before_a_restart_is_kept_by_containers_that_are_rebuilt(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    with Platform(lab) as platform:
        lab.start_all(*FAILS, **BUDGET | {"UNIT_BACKOFF_SECONDS": "0,4"})
        platform.given_up((0, 1))
    first, second = pauses(lab)
    assert first < 4 <= second


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 2])
def test_who_is_killed_while_the_others_give_up_ends_too(make_lab: MakeLab, killed: int) -> None:
    """It leaves no last word, and when it is back nobody is there any more: it must not wait for them."""
    lab = make_lab(3)
    lingers = (f"only={killed}", "lingers=3")
    with Platform(lab) as platform:
        lab.start_all(*FAILS, *lingers, **BUDGET)
        lab.until(lambda: len(lab.events("exit")) == 3, "the third failure")
        lab.agents[killed].kill()
        others = tuple({0, 1, 2} - {killed})
        platform.given_up((0, 1, 2))
        assert {host: platform.codes[host][-1] for host in others} == dict.fromkeys(others, 70)
        lab.rebuild(killed)
        lab.until(lambda: platform.codes[killed][-1] == 70, "who is back gives up too", 20)
    assert lab.generations() == [1, 2, 3]


@pytest.mark.slow
def test_a_unit_started_anew_after_it_gave_up_has_a_fresh_budget(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    for time in (1, 2):
        with Platform(lab) as platform:
            lab.start_all(*FAILS, **BUDGET)
            platform.given_up((0, 1))
        assert platform.codes == {0: SPENT, 1: SPENT}
        assert lab.generations() == list(range(1, 3 * time + 1))
