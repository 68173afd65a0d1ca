"""A start that differs from what its gate was built for, so that no fork is the same, is cold and says why.
It costs that gate, and the next one is warm again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import AS_SUBREAPER
from tests.process.test_warm import Start, outcome

END = "raise SystemExit(3)"


def run_twice(start: Start, *options: str, command: tuple[str, ...] = ("-c", END), **popen: Any) -> str:
    """Why the first start was cold; the second one must be warm, from another gate."""
    agent = start("--warm", "json", "--again", "2", *options, "--", sys.executable, *command, **popen)
    outcome(agent)
    assert [how["warm"] for how in agent.events("start")] == [False, True, True], agent.events("start")
    first, *later = (one["gate"] for one in agent.events("settled"))
    assert first not in later
    assert len(set(later)) == 1
    why = str(agent.events("start")[0]["why"])
    agent.events_file.unlink()
    return why


@pytest.mark.root
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "group",
            "Gid is ",
        ),  # a user's own cannot change alone: nobody may not enter the folder of this Python
        ("groups", "Groups is "),
        ("privileges", "NoNewPrivs is '1', and was '0'"),
        ("network", "ns/net is "),
        ("mounts", "ns/mnt is "),
        ("hostname", "ns/uts is "),
        ("score", "oom_score_adj is '321'"),
        ("scheduler", "scheduler is "),
    ],
)
def test_an_agent_that_has_changed(start: Start, change: str, why: str) -> None:
    assert why in run_twice(start, "--change", change)


@pytest.mark.root
@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_another_control_group(start: Start, group: Path) -> None:
    assert "cgroup is " in run_twice(start, "--enter", str(group))


def build_for(command: list[str], **env: str) -> tuple[str, str]:
    return "--first", json.dumps([command, env])


@AS_SUBREAPER
def test_another_interpreter(start: Start, tmp_path: Path) -> None:
    other = tmp_path / "python3"
    other.symlink_to(os.path.realpath(sys.executable))
    assert (
        run_twice(start, *build_for([str(other), "-c", END])) == "the interpreter of its command is another"
    )


@AS_SUBREAPER
def test_another_program(start: Start, tmp_path: Path) -> None:
    script, other = tmp_path / "script.py", tmp_path / "other.py"
    for file in (script, other):
        file.write_text(END)
    first = build_for([sys.executable, str(other)])
    assert run_twice(start, *first, command=(str(script),)) == "the target of its command is another"
    first = build_for([sys.executable, "-m", "this"])
    assert run_twice(start, *first, command=(str(script),)) == "the kind of its command is another"


@AS_SUBREAPER
def test_other_options_of_the_interpreter(start: Start) -> None:
    first = build_for([sys.executable, "-u", "-c", END])
    assert run_twice(start, *first) == "the options of its interpreter are others"


@AS_SUBREAPER
def test_another_environment(start: Start) -> None:
    first = build_for([], OMP_NUM_THREADS="7")
    assert run_twice(start, *first) == "the variable OMP_NUM_THREADS has changed"


@AS_SUBREAPER
def test_other_arguments_make_no_difference(start: Start) -> None:
    first = build_for([sys.executable, "-c", END, "--before"])
    agent = start("--warm", "json", *first, "--", sys.executable, "-c", END, "--now")
    assert outcome(agent)["warm"]


@AS_SUBREAPER
def test_a_program_that_has_changed_on_disk_runs_as_it_is_now(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\n")
    change = ["--touch", str(script), "--append", "sys.exit(3)"]
    assert outcome(start("--warm", "json", *change, "--", sys.executable, str(script)))["warm"]


def test_changed_files_are_no_failures_of_the_gate(start: Start, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    options = ["--warm", "changing", "--touch", str(module), "--again", "3"]
    agent = start(*options, "--", sys.executable, "-c", END, env=env)
    outcome(agent)
    expected = f"{module} has changed since it was imported"
    assert [how["why"] for how in agent.events("start")] == [expected] * 4
