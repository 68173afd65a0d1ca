"""What a gate learns from its first warm starts: late imports, and the environment that children get."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.process.conftest import AS_SUBREAPER
from tests.process.test_warm import UNCLEAN, Start, outcome
from unitagent.workload import warm_record

LATE = """
import multiprocessing, os, sys
def work():
    import late_child, late_grandchild, colorsys
if __name__ == "__main__":
    import late_main, own, transformers_modules.model
    try:
        import late_broken
    except ValueError:
        pass
    os.environ["LEARNED"] = "of the main process"
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    import colorsys
    sys.exit(3)
"""


def make_packages(folder: Path, **modules: str) -> dict[str, str]:
    """Install modules, and let a script have one of its own; return its environment."""
    packages = folder / "lib" / "site-packages"
    (packages / "transformers_modules").mkdir(parents=True)
    texts = {
        "late_main": "import csv",
        "late_child": "",
        "late_broken": "raise ValueError",
        "late_grandchild": "import wave",
        "transformers_modules/model": "",
        **modules,
    }
    for name, text in texts.items():
        (packages / f"{name}.py").write_text(text)
    (folder / "own.py").write_text("")
    (folder / "script.py").write_text(LATE)
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(packages), *sys.path))}


@AS_SUBREAPER
def test_what_warm_starts_still_import_the_next_gate_has(start: Start, tmp_path: Path) -> None:
    env = make_packages(tmp_path)
    agent = start(
        "--warm", "json", "--again", "2", "--", sys.executable, str(tmp_path / "script.py"), env=env
    )
    assert outcome(agent)["warm"]
    first, *later = agent.events("settled")
    assert (first["late"], first["learned"]) == ([], [])
    for one in later:
        assert {"late_main", "csv", "late_child", "late_grandchild", "wave"} <= set(one["late"])
        named = {"own", "transformers_modules.model", "late_broken", "colorsys", "script"}
        assert not named & set(one["late"])  # the last one of a process is noted with the next one only
        assert "LEARNED" in one["learned"]
    assert [how["warm"] for how in agent.events("start")] == [True] * 3
    assert len({one["gate"] for one in later}) == 1, "a gate that has learned is good enough"


def test_children_that_were_spawned_cold_at_first_are_learned_from_later(
    start: Start, tmp_path: Path
) -> None:
    env = make_packages(tmp_path)
    program = tmp_path / "script.py"
    program.write_text(
        LATE.replace('os.environ["LEARNED"]', 'os.environ["LD_PRELOAD"]').replace("of the main process", "")
    )
    agent = start("--warm", "json", "--again", "4", "--", sys.executable, str(program), env=env)
    assert outcome(agent)["warm"]
    late = [set(one["late"]) for one in agent.events("settled")]
    assert [("late_main" in one, "late_child" in one) for one in late] == [
        (False, False),
        (True, False),
        *[(True, True)] * 3,
    ]
    assert agent.output()[1].count("spawns cold: LD_PRELOAD differs from that of the gate") == 1


@AS_SUBREAPER
def test_what_was_learned_is_there_before_the_program_begins(start: Start, tmp_path: Path) -> None:
    env = make_packages(tmp_path, late_main="import os\nSEEN = os.environ.get('LEARNED')")
    program = tmp_path / "script.py"
    program.write_text(LATE.replace("    try:\n", "    print(late_main.SEEN)\n    try:\n", 1))
    agent = start("--warm", "json", "--again", "1", "--", sys.executable, str(program), env=env)
    assert outcome(agent)["warm"]
    assert agent.output()[0].split("\n")[:2] == ["None", "of the main process"]


@AS_SUBREAPER
def test_imports_that_spoil_a_gate_are_left_to_its_processes(start: Start, tmp_path: Path) -> None:
    env = make_packages(tmp_path, late_child=UNCLEAN["starts 1 threads"])
    agent = start(
        "--warm", "json", "--again", "2", "--", sys.executable, str(tmp_path / "script.py"), env=env
    )
    assert outcome(agent)["warm"]
    assert [one["late"] for one in agent.events("settled")] == [[]] * 3
    assert [how["warm"] for how in agent.events("start")] == [True] * 3
    assert "is built without what was imported late: its imports start 1 threads" in agent.output()[1]


@AS_SUBREAPER
def test_a_failure_of_what_has_learned_costs_what_it_has_learned(start: Start, tmp_path: Path) -> None:
    env = make_packages(tmp_path)
    command = ["--", sys.executable, str(tmp_path / "script.py")]
    agent = start("--warm", "json", "--blame", "2", "--again", "3", *command, env=env)
    assert outcome(agent)["warm"]
    assert [bool(one["late"]) for one in agent.events("settled")] == [False, True, False, False]


def test_the_workload_can_write_what_it_likes_into_the_record() -> None:
    memory = warm_record.create_memory()
    size = warm_record.SIZE
    try:
        for noise in (b"\xff" * size, b"\x01" * size, os.urandom(4096) * (size // 4096)):
            os.pwrite(memory, noise, 0)
            for names in warm_record.read_imports(memory).values():
                assert all(all(map(str.isidentifier, name.split("."))) for name in names)
            assert warm_record.read_environment(memory) == {}
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(memory, 0)
    finally:
        os.close(memory)


def test_each_process_has_its_own_part_of_the_record() -> None:
    memory = warm_record.create_memory()
    try:
        record = warm_record.Record(os.dup(memory))
        parts = [record.claim_slot(role) for role in (0, 1) * 32]
        assert all(len(part) > 0 for part in parts)
        assert len(record.claim_slot(0)) == 0
        record.note_environment({b"A": b"\xff"})
        record.note_environment({b"A": b"2"})
        assert warm_record.read_environment(memory) == {"A": "\udcff"}
    finally:
        os.close(memory)
