"""Who is different: ranks are grouped by where they are."""

from __future__ import annotations

from unitagent.evidence.comparison import compare_ranks
from unitagent.evidence.places import Place

REDUCE = Place(1, "train", "all_reduce", "in all_reduce (train.py:20)", waits=True)
OPEN = Place(1, "train", "read_model", "in read_model (train.py:12), open of /models/x")
LOOP = Place(1, "train", "forward", "in forward (train.py:15)")
STOPPED = Place(1, "train", "suspended", "suspended (state T) in all_reduce (train.py:20)", halted=True)


def test_one_of_many_is_named() -> None:
    places = {rank: [OPEN if rank == 5 else REDUCE] for rank in range(8)}
    assert compare_ranks(places) == (
        "7 of 8 ranks wait in all_reduce (train.py:20), "
        "rank 5 is in read_model (train.py:12), open of /models/x"
    )


def test_of_two_the_one_that_the_other_waits_for_is_named_last() -> None:
    assert compare_ranks({0: [LOOP], 1: [REDUCE]}) == (
        "rank 1 waits in all_reduce (train.py:20), rank 0 is in forward (train.py:15)"
    )


def test_a_stopped_one_is_named_whatever_its_code_does() -> None:
    assert compare_ranks({0: [REDUCE], 1: [STOPPED], 2: [REDUCE]}) == (
        "2 of 3 ranks wait in all_reduce (train.py:20), "
        "rank 1 is suspended (state T) in all_reduce (train.py:20)"
    )


def test_several_odd_ones_are_named_and_many_are_counted() -> None:
    places = {rank: [LOOP if rank < 5 else REDUCE] for rank in range(12)}
    told = compare_ranks(places)
    assert told.startswith("7 of 12 ranks wait in all_reduce (train.py:20), rank 0 is in forward")
    assert told.endswith("2 more are elsewhere")


def test_several_processes_of_a_rank_are_told_apart() -> None:
    places = {rank: [Place(10 + gpu, *_rest(REDUCE)) for gpu in range(2)] for rank in range(2)}
    places[1][1] = OPEN
    assert compare_ranks(places) == (
        "3 of 4 processes of train wait in all_reduce (train.py:20), "
        "process 1 of rank 1 is in read_model (train.py:12), open of /models/x"
    )


def test_a_role_of_one_rank_is_compared_with_nobody() -> None:
    server = Place(7, "serve", "run", "in run (server.py:1)")
    assert compare_ranks({0: [server, REDUCE], 1: [REDUCE]}) == ""


def test_nobody_is_named_without_a_reason() -> None:
    assert compare_ranks({}) == ""
    assert compare_ranks({0: [REDUCE]}) == ""
    assert compare_ranks({rank: [REDUCE] for rank in range(4)}) == ""
    assert compare_ranks({0: [LOOP], 1: [OPEN]}) == "", "neither waits for the other"
    assert compare_ranks({rank: [Place(1, "train", f"step {rank}", "in step")] for rank in range(4)}) == ""


def test_a_rank_without_processes_is_named() -> None:
    assert compare_ranks({0: [REDUCE], 1: [], 2: [REDUCE]}) == "rank 1 has no workload process left"


def _rest(place: Place) -> tuple[str, str, str, bool, bool]:
    return place.role, place.key, place.words, place.waits, place.halted
