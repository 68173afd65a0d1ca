"""Where a process is, from its stack and what the kernel says."""

from __future__ import annotations

import os

from unitagent.evidence.kernel import ProcessSnapshot
from unitagent.evidence.places import Place, find_place, parse_place
from unitagent.evidence.stacks import Frame, ThreadStack, parse_stacks
from unitagent.system.procfs import Process

PACKAGES = "/usr/lib/python3.11/site-packages"
C10D = f"{PACKAGES}/torch/distributed/distributed_c10d.py"
TRAIN = [("train", "/app/train.py", 20), ("<module>", "/app/train.py", 40)]


def seen(state: str = "S", doing: str = "", wait: str = "") -> ProcessSnapshot:
    return ProcessSnapshot(
        Process(7, "python", state, 1, 7, 0), doing=doing, waits=[f"7 (python), state {state}, in {wait}"]
    )


def stack(*calls: tuple[str, str, int], thread: int = 7) -> ThreadStack:
    frames = tuple(Frame(name, file, file.rsplit("/", 1)[-1], line) for name, file, line in calls)
    return ThreadStack(7, thread, "MainThread", thread == 7, is_active=False, frames=frames)


def test_a_collective_is_named_by_its_caller() -> None:
    calls = [
        ("all_reduce", C10D, 2988),
        ("wrapper", f"{PACKAGES}/torch/distributed/c10d_logger.py", 83),
        *TRAIN,
    ]
    place = find_place(seen(doing="read of socket:[1]"), [stack(*calls)])
    assert (place.words, place.waits) == ("in all_reduce, called by train (train.py:20)", True)
    assert place.role == "<module> (train.py)"
    other = find_place(seen(), [stack(*calls[:2], ("train", "/app/train.py", 21), TRAIN[1])])
    assert other.key != place.key, "another collective of the same name"


def test_the_outermost_wait_is_named_and_not_what_it_is_made_of() -> None:
    calls = [
        ("Poller.poll", f"{PACKAGES}/zmq/sugar/poll.py", 106),
        ("dequeue", f"{PACKAGES}/vllm/shm_broadcast.py", 640),
        *TRAIN,
    ]
    assert find_place(seen(), [stack(*calls)]).words == "in dequeue, called by train (train.py:20)"


def test_the_standard_library_is_passed_over() -> None:
    calls = [
        ("Condition.wait", "/usr/lib/python3.11/threading.py", 331),
        ("get", "/app/queue_of_mine.py", 3),
        *TRAIN,
    ]
    assert find_place(seen(), [stack(*calls)]).words == "in get (queue_of_mine.py:3)"
    only = [("Thread.run", "/usr/lib/python3.11/threading.py", 1)]
    assert find_place(seen(), [stack(*only)]).words == "in Thread.run (threading.py:1)"


def test_two_lines_of_one_function_are_one_place() -> None:
    places = [find_place(seen("R"), [stack(("spin", "/app/train.py", line), TRAIN[1])]) for line in (3, 4)]
    assert places[0].key == places[1].key
    assert places[0].words != places[1].words


def test_the_main_thread_counts() -> None:
    beside = stack(("beat", "/app/train.py", 1), thread=8)
    assert find_place(seen(), [beside, stack(*TRAIN)]).words == "in train (train.py:20)"


def test_the_file_that_is_wanted_is_named() -> None:
    place = find_place(
        seen(doing="open of /models/x"), [stack(("read_model", "/app/train.py", 12), TRAIN[1])]
    )
    assert place.words == "in read_model (train.py:12), open of /models/x"


def test_stopped_and_stuck_stand_above_the_code() -> None:
    stopped = find_place(seen("T"), [stack(*TRAIN)])
    assert (stopped.words, stopped.halted) == ("suspended (state T) in train (train.py:20)", True)
    stuck = find_place(seen("D", doing="read of /models/x"), [stack(*TRAIN)])
    assert stuck.words == "stuck in the kernel (state D) in train (train.py:20), read of /models/x"
    assert stuck.halted


def test_without_stacks_the_kernel_tells() -> None:
    assert find_place(seen("S", wait="futex_do_wait"), []).words == "waiting in the kernel's futex_do_wait"
    assert find_place(seen("R"), []).words == "running python"


def test_a_place_survives_its_way_through_the_store() -> None:
    place = Place(7, "role", "key", "in x" * 100, waits=True)
    read = parse_place(place.describe())
    assert read == Place(7, "role", "key", place.words[:160], waits=True)


def test_nonsense_has_no_stacks() -> None:
    for raw in (b"", b"Error: no", b"[1]", b"{}", b'[{"pid": 1}]', b"[" * 100_000, os.urandom(100)):
        assert parse_stacks(raw) == []
