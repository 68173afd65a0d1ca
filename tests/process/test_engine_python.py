"""What an engine's interpreter would find, asked without running any code of the engine or its packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unitagent.workload.engine_python import ask_python, explain_kernel
from unitagent.workload.python_command import resolve_python


@pytest.fixture
def python(tmp_path: Path) -> tuple[str, Path]:
    """An interpreter of its own, and where its packages are."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/python3*/site-packages")
    return str(tmp_path / "venv" / "bin" / "python"), packages


def find_absent(python: str, *modules: str, options: tuple[str, ...] = (), **env: str) -> dict[str, str]:
    given = {**os.environ, **env}
    command = resolve_python([python, *options, "x.py"], given)
    return dict(ask_python(command, given, modules).absent)


def test_nothing_is_run_to_find_a_module(python: tuple[str, Path], tmp_path: Path) -> None:
    interpreter, packages = python
    elsewhere, beside = tmp_path / "elsewhere", tmp_path / "beside"
    for folder in (packages / "engine", elsewhere, beside):
        folder.mkdir()
    leave = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for file in (
        packages / "engine" / "__init__.py",
        packages / "engine" / "core.py",
        elsewhere / "linked.py",
    ):
        file.write_text(leave)
    for name in ("sitecustomize.py", "usercustomize.py", "json.py"):
        (beside / name).write_text(leave)
    (packages / "some.pth").write_text(f"# a comment\n{elsewhere}\nimport engine\n")
    absent = find_absent(
        interpreter,
        "engine.core",
        "engine.gone.deep",
        "linked",
        "json.decoder",
        "sys",
        PYTHONPATH=str(beside),
    )
    assert absent == {"engine.gone.deep": "engine.gone", "json.decoder": "json.decoder"}
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_may_provide_modules_is_named(python: tuple[str, Path]) -> None:
    interpreter, packages = python
    (packages / "editable.pth").write_text("import anything\n")
    command = resolve_python([interpreter, "x.py"], os.environ)
    assert ask_python(command, os.environ, ["json"]).hooks == ["editable.pth"]


@pytest.mark.parametrize(
    ("options", "absent"), [((), False), (("-S",), False), (("-E",), True), (("-uI",), True)]
)
def test_the_options_of_the_interpreter_count(
    python: tuple[str, Path], tmp_path: Path, options: tuple[str, ...], absent: bool
) -> None:
    (tmp_path / "own.py").write_text("")
    assert bool(find_absent(python[0], "own", options=options, PYTHONPATH=str(tmp_path))) == absent


def test_packages_count_unless_site_is_off(python: tuple[str, Path]) -> None:
    (python[1] / "engine.py").write_text("")
    assert find_absent(python[0], "engine") == {}
    assert find_absent(python[0], "engine", options=("-S",)) == {"engine": "engine"}


def test_this_kernel_allows_warm_starts() -> None:
    assert explain_kernel() == ""
