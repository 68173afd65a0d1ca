"""Every check of the checker fires: a history in which all is well, and what is said of a wrong one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from tests.chaos.checker import CHECKS, broken, violations
from tests.chaos.faults import KINDS
from tests.chaos.history import Chronicle, End, Fault, Flip, History, Round, Sample
from tests.chaos.limits import at_once, refused
from tests.chaos.plan import SIZE, USUAL, Plan, draw, schedule, timings
from tests.network.lives import Life
from unitagent.core.timing import Timing, explain_bad_pair

STRUCK, AGAIN, LAST = 20.0, 30.0, 60.0  # the first generation ends, the second starts, the history ends


def life(rank: int, generation: int, born: float, died: float | None = None, **more: Any) -> Life:
    given = {"pid": 100 * generation + rank, "host": f"host{rank}", "agent": f"a{rank}", "main": True, **more}
    return Life(rank=rank, generation=generation, born=born, died=died, **given)


def begin(rank: int, generation: int, **changes: str) -> dict[str, Any]:
    env = {"MASTER_ADDRESS": "ip0", "MASTER_PORT": "1", "UNIT_RANK_IPS": "ip0,ip1", "UNIT_SIZE": "4"}
    return {"event": "begin", "rank": rank, "generation": generation, "env": {**env, **changes}}


def sample(at: float, rank: int = 0, generation: int = 2, *, ready: bool = True) -> Sample:
    return Sample(at, rank, f"a{rank}", generation, "running", "running", ready)


def clean(kind: str = "cut off") -> History:
    """One fault at rank 1; generation 1 ends by it, and 2 starts."""
    history = History(SIZE, 0.0, Timing.from_lease(5.0, 1.0))
    fault = Fault(kind, 1, STRUCK, STRUCK + 9)
    history.rounds = [Round(0, [fault], before=1, after=2, ready=AGAIN, ended=AGAIN + 1.5)]
    ranks = range(SIZE)
    history.lives = [
        life(rank, 1, born=1.0, died=STRUCK + (1 if KINDS[kind].noticed in {at_once, refused} else 5))
        for rank in ranks
    ]
    history.lives += [life(rank, 2, born=AGAIN, died=LAST) for rank in ranks]
    history.notes = [begin(rank, generation) for rank in ranks for generation in (1, 2)]
    history.samples = [sample(STRUCK - 1, rank, 1) for rank in ranks]
    history.samples += [sample(STRUCK + 6, rank, 1, ready=False) for rank in ranks]
    history.samples += [sample(AGAIN + 1, rank) for rank in ranks]
    history.ends = [End(LAST, rank, 0, due=0) for rank in ranks]
    return history


def change(history: History, number: int, **changes: Any) -> None:
    """Change a life; number -1 is the last rank's in generation 2."""
    history.lives[number] = replace(history.lives[number], **changes)


def one_was_left(history: History) -> None:
    change(history, 3, died=AGAIN + 0.1)


def one_was_told_another_master(history: History) -> None:
    history.notes.append(begin(3, 2, MASTER_PORT="2"))


def one_started_twice(history: History) -> None:
    history.lives.append(life(2, 2, born=AGAIN + 1, died=LAST))


def two_of_a_rank(history: History) -> None:
    history.lives.append(life(2, 2, born=AGAIN + 1, died=LAST, agent="other"))


def an_older_one_starts(history: History) -> None:
    history.lives.append(life(2, 1, born=AGAIN + 1, died=AGAIN + 2))


def an_agent_goes_back(history: History) -> None:
    history.samples.append(sample(AGAIN + 2, 3, generation=1, ready=False))


def nothing_restarted(history: History) -> None:
    history.lives = [replace(one, generation=1) for one in history.lives[:4]]
    history.rounds[0].after = 1


def two_restarts(history: History) -> None:
    history.lives += [life(rank, 3, born=LAST + 1) for rank in range(SIZE)]
    history.rounds[0].after = 3


def needless(history: History) -> None:
    history.rounds[0].faults[0].kind = "agent pauses"


def an_older_keeper_was_left(history: History) -> None:
    history.kept = [life(0, 1, born=1.0, died=AGAIN + 0.2), life(1, 3, born=AGAIN, died=LAST)]


def a_keeper_starts_beside_a_workload(history: History) -> None:
    history.kept = [life(1, 3, born=LAST - 0.3, died=LAST)]


def a_keeper_lives_on_alone(history: History) -> None:
    history.kept = [life(1, 1, born=1.0, died=STRUCK + 8)]


def never_back(history: History) -> None:
    history.rounds[0].stuck = "not within 60 s"


def between_the_rounds(history: History) -> None:
    history.rounds.append(Round(1, [Fault("agent pauses", 1, 55.0)], before=3, after=3))


def noticed_late(history: History) -> None:
    for number in range(SIZE):
        change(history, number, died=STRUCK + 7.5)


def noticed_by_nobody(history: History) -> None:
    for number in (0, 2, 3):
        change(history, number, died=STRUCK - 0.1)


def serves_on_alone(history: History) -> None:
    change(history, 1, died=STRUCK + 8)


def says_ready(history: History) -> None:
    history.samples.append(sample(STRUCK + 5 + 7.5, 2, generation=1))


def rebuilt_late(history: History) -> None:
    history.rounds[0].faults = [Fault("container killed", 1, STRUCK, AGAIN - 6.0)]
    history.flips = [Flip(STRUCK + 1, 1, 0, ""), Flip(AGAIN - 3.1, 1, 503, "")]


def flips(code: int) -> Callable[[History], None]:
    def doctor(history: History) -> None:
        history.rounds[0].faults[0].kind = "store set back"
        history.flips = [
            Flip(STRUCK - 9, 2, 503, "before"),
            Flip(STRUCK - 8, 2, 200, ""),
            Flip(AGAIN + 1, 2, code, "rank 1 shows no sign of life"),
        ]

    return doctor


def ends_with(code: int, due: int | None) -> Callable[[History], None]:
    return lambda history: history.ends.append(End(40.0, 2, code, due))


DOCTORED: list[tuple[Callable[[History], None], str]] = [
    (one_was_left, "was alive 0.100 s after generation 2 started"),
    (one_was_told_another_master, "generation 2: ranks were told different things"),
    (one_started_twice, "rank 2 started generation 2 2 times"),
    (two_of_a_rank, "of two incarnations lived together"),
    (an_older_one_starts, "generation 1 started on rank 2 after generation 2 had"),
    (an_agent_goes_back, "rank 3 went back from generation 2 to 1"),
    (nothing_restarted, "nothing restarted"),
    (two_restarts, "2 restarts"),
    (needless, "a needless restart"),
    (an_older_keeper_was_left, "was alive 0.200 s after generation 3 started"),
    (a_keeper_starts_beside_a_workload, "was alive 0.300 s after generation 3 started"),
    (a_keeper_lives_on_alone, "lived on for more than 7 s"),
    (never_back, "did not come back"),
    (between_the_rounds, "generation 2 had ended without a fault"),
    (noticed_late, "was noticed after 7.50 s, not within 7 s"),
    (noticed_by_nobody, "was noticed never"),
    (serves_on_alone, "lived on for more than 7 s"),
    (says_ready, "rank 2 said ready 7.5 s after a workload had died"),
    (rebuilt_late, "container killed took 3.10 s to start again, not 3 s"),
    (flips(503), "rank 2 was not ready after 11.00 s: rank 1 shows no sign of life"),
    (ends_with(1, due=0), "ended with 1, but 0 was due"),
    (ends_with(0, due=76), "ended with 0, but 76 was due"),
    (ends_with(75, due=None), "ended with 75, but it should have gone on"),
]


@pytest.mark.parametrize(
    "kind", ["cut off", "deaf", "mute", "machine gone", "agent hangs", "container killed"]
)
def test_nothing_is_said_when_all_is_well(kind: str) -> None:
    assert broken(clean(kind)) == []


def test_a_keeper_outlives_generations_of_workloads() -> None:
    history = clean("workload killed")
    history.kept = [life(rank, 0, born=0.5, died=LAST) for rank in range(SIZE)]
    assert broken(history) == []


@pytest.mark.parametrize(("doctor", "sentence"), DOCTORED, ids=[sentence for _, sentence in DOCTORED])
def test_a_broken_guarantee_is_told(doctor: Callable[[History], None], sentence: str) -> None:
    history = clean()
    doctor(history)
    assert [one for one in broken(history) if sentence in one], broken(history)


@pytest.mark.parametrize("kind", ["deaf", "mute", "cut off and replaced"])
def test_who_is_isolated_in_another_way_stops_too(kind: str) -> None:
    history = clean(kind)
    serves_on_alone(history)
    assert any("lived on for more than 7 s" in one for one in broken(history))


@pytest.mark.parametrize(("kind", "seconds"), [("workload killed", 1.5), ("container killed", 3)])
def test_what_is_seen_or_refused_is_known_soon(kind: str, seconds: float) -> None:
    history = clean(kind)
    for number in range(SIZE):
        change(history, number, died=STRUCK + seconds + 0.1)
    assert any(f"not within {seconds:g} s" in one for one in broken(history))


def test_no_check_is_without_a_doctored_history() -> None:
    """Each check alone finds something in one of them."""
    found = set()
    for doctor, _ in DOCTORED:
        history = clean()
        doctor(history)
        found |= {check for check in CHECKS if list(check(history))}
    assert found == set(CHECKS)


def test_a_rank_that_does_not_answer_in_time_has_not_said_that_it_is_not_ready() -> None:
    history = clean()
    flips(0)(history)
    assert not [one for one in broken(history) if "was not ready" in one]


def test_the_limits_are_those_of_each_units_timing() -> None:
    """What is in time for a long lease is late for a short one, and the sentence names which it was."""
    history, other = clean(), clean()
    noticed_late(history)
    noticed_late(other)
    other.timing = Timing.from_lease(9.0, 1.0)
    found = [one for one in violations(Chronicle([other, history])) if "was noticed after 7.50 s" in one]
    assert found == [
        "Unit 1 (lease 5 s, heartbeat 1 s): round 0: cut off was noticed after 7.50 s, not within 7 s"
    ]


def test_timings_are_drawn_from_all_that_is_accepted() -> None:
    chance = random.Random(1)
    pairs = [draw(chance) for _ in range(2000)]
    assert not [pair for pair in pairs if explain_bad_pair(*pair)]
    assert {0.2} < {heartbeat for _, heartbeat in pairs}
    assert any(lease == 2 * heartbeat for lease, heartbeat in pairs)
    assert min(pairs)[0] < 1.1
    assert max(pairs)[0] > 11.5
    assert 0.05 < sum(lease < 2 for lease, _ in pairs) / len(pairs) < 0.15
    assert all(Timing.from_lease(*pair) for pair in pairs)


def test_a_plan_draws_the_same_timings_again() -> None:
    plan = Plan(rounds=3, seed=4)
    assert list(islice(timings(plan), 5)) == list(islice(timings(plan), 5))
    assert {one.lease for one in islice(timings(replace(plan, timing=(5.0, 1.0))), 5)} == {5.0}


def test_the_rounds_of_ci_have_every_kind_of_fault() -> None:
    rounds = schedule(USUAL)
    assert {kind for faults in rounds for kind, _ in faults} == set(KINDS)
    assert any(len(faults) == 2 for faults in rounds)
