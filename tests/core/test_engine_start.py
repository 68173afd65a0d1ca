"""What a start was made of: phases that add up, and in which one it took longer than the last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitagent.core.engine_start import (
    OTHER,
    PHASES,
    StartMarks,
    add_part,
    describe_start,
    end_phase,
    list_phases,
    measure_phases,
)

BEGUN = 100.0
LAST = {"imports": 30.0, "weights": 8.0, "server": 2.0}


def ended(*ends: tuple[str, float]) -> StartMarks:
    marks = StartMarks(begun=BEGUN)
    for phase, after in ends:
        marks = end_phase(marks, phase, BEGUN + after)
    return marks


def test_phases_follow_each_other_and_the_end_is_the_rest() -> None:
    marks = ended(("imports", 30.0), ("distributed_init", 31.0), ("weights", 51.0))
    assert measure_phases(marks) == {"imports": 30.0, "distributed_init": 1.0, "weights": 20.0}
    assert measure_phases(marks, BEGUN + 60) == {
        "imports": 30.0, "distributed_init": 1.0, "weights": 20.0, OTHER: 9.0,
    }  # fmt: skip


def test_an_end_that_no_line_tells_is_a_part_of_the_next_phase() -> None:
    assert measure_phases(ended(("imports", 30.0), ("weights", 51.0))) == {"imports": 30.0, "weights": 21.0}


def test_the_last_process_that_ends_a_phase_counts_until_a_later_phase_has_ended() -> None:
    marks = ended(
        ("imports", 10.0), ("imports", 12.0), ("weights", 20.0), ("weights", 26.0), ("kv_cache", 30.0)
    )
    assert measure_phases(marks) == {"imports": 12.0, "weights": 14.0, "kv_cache": 4.0}
    assert measure_phases(end_phase(marks, "imports", BEGUN + 40)) == measure_phases(marks)


def test_what_is_loaded_late_is_taken_from_the_phase_that_it_is_in() -> None:
    marks = ended(("imports", 10.0), ("weights", 20.0), ("kv_cache", 22.0))
    marks = end_phase(marks, "weights", BEGUN + 29, 5.0)
    marks = end_phase(marks, "graph_capture", BEGUN + 30)
    assert measure_phases(marks) == {"imports": 10.0, "weights": 15.0, "kv_cache": 2.0, "graph_capture": 3.0}


def test_a_part_is_taken_from_the_phase_around_it_and_the_slowest_process_counts() -> None:
    marks = ended(("imports", 10.0), ("weights", 20.0))
    for phase, seconds in (("compile", 11.0), ("compile", 12.0), ("compile", 9.0), ("graph_capture", 3.0)):
        marks = add_part(marks, phase, seconds)
    marks = end_phase(marks, "kv_cache", BEGUN + 40)
    assert measure_phases(marks) == {
        "imports": 10.0, "weights": 10.0, "compile": 12.0, "kv_cache": 5.0, "graph_capture": 3.0,
    }  # fmt: skip


def test_a_part_stays_in_a_phase_that_ends_again() -> None:
    marks = ended(("imports", 10.0), ("kv_cache", 20.0), ("graph_capture", 30.0))
    marks = end_phase(add_part(marks, "weights", 4.0), "graph_capture", BEGUN + 40)
    marks = end_phase(marks, "server", BEGUN + 43)
    assert measure_phases(marks) == {
        "imports": 10.0, "weights": 4.0, "kv_cache": 10.0, "graph_capture": 16.0, "server": 3.0,
    }  # fmt: skip


def test_no_part_is_longer_than_what_it_is_a_part_of() -> None:
    marks = add_part(ended(("imports", 10.0)), "compile", 1e9)
    assert measure_phases(marks, BEGUN + 15) == {"imports": 10.0, "compile": 5.0, OTHER: 0.0}


def test_a_line_of_another_program_at_the_beginning_ends_nothing() -> None:
    assert ended(("server", 1.0)) == StartMarks(begun=BEGUN)
    assert measure_phases(ended(("server", 1.0), ("imports", 9.0), ("server", 10.0))) == {
        "imports": 9.0, "server": 1.0,
    }  # fmt: skip


def test_a_start_is_told_with_its_phases() -> None:
    phases = {"imports": 30.0, "distributed_init": 1.04, "kv_cache": 2.0, "graph_capture": 3.0, OTHER: 4.0}
    assert describe_start(phases, None) == (
        "started in 40.0 s: imports 30.0 s, distributed init 1.0 s, KV cache 2.0 s, graph capture 3.0 s, "
        "the rest 4.0 s"
    )


@pytest.mark.parametrize(
    ("phases", "slower"),
    [
        (
            {"imports": 30.5, "weights": 20.1, "server": 2.0},
            "that is 12.6 s more than the last start: weights took 20.1 s, 8.0 s then",
        ),
        (
            {"imports": 30.0, "weights": 12.0, "compile": 9.0, "server": 2.0},
            (
                "that is 13.0 s more than the last start: compilation took 9.0 s, 0.0 s then; "
                "weights took 12.0 s, 8.0 s then"
            ),
        ),
        (
            {"imports": 35.5, "weights": 9.5, "server": 2.0, OTHER: 0.9},
            "",  # 7.9 s are less than a fifth
        ),
        (
            {"imports": 35.9, "weights": 9.5, "server": 2.3, OTHER: 0.9},
            "that is 8.6 s more than the last start: in no single phase",
        ),
        ({"imports": 1.0, "weights": 8.0, "server": 2.0}, ""),
    ],
)
def test_a_start_that_was_notably_slower_says_in_which_phase(phases: dict[str, float], slower: str) -> None:
    text = describe_start(phases, LAST)
    assert text.partition("; ")[2] == slower
    assert text.startswith(f"started in {sum(phases.values()):.1f} s: {list_phases(phases)}")


def test_less_than_a_second_is_not_notable() -> None:
    assert "last start" not in describe_start({"server": 1.9}, {"server": 1.0})
    assert "last start" in describe_start({"server": 2.0}, {"server": 1.0})


TIMES = st.floats(0, 1000, allow_nan=False)
LINES = st.tuples(st.sampled_from(PHASES), TIMES, st.none() | TIMES, st.booleans())


@given(st.lists(LINES, max_size=30), TIMES)
def test_whatever_the_lines_say_the_phases_add_up_to_the_start_in_bounded_memory(
    lines: list[tuple[str, float, float | None, bool]], rest: float
) -> None:
    marks, now = StartMarks(begun=BEGUN), BEGUN
    for phase, after, seconds, within in lines:
        now += after
        if within and seconds is not None:
            marks = add_part(marks, phase, seconds)
        else:
            marks = end_phase(marks, phase, now, seconds)
    phases = measure_phases(marks, now + rest)
    assert all(seconds >= 0 for seconds in phases.values())
    assert sum(phases.values()) == pytest.approx(now + rest - BEGUN, abs=0.02)
    assert list(phases) == [phase for phase in (*PHASES, OTHER) if phase in phases]
    assert len(marks.parts) <= (len(PHASES) + 1) ** 2
