"""The shape of the package: which way imports run, and how large its parts are."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "unitagent"
FILES = sorted(ROOT.rglob("*.py"))
ROOMS = {"store", "workload", "discovery", "frameworks", "probes", "evidence"}
SHELL = {"agent", "operator", "commands", "cli", "__main__"}  # where the rooms may meet
MEETING = {  # of the operator's files; the others make words of what they are given
    "agent_client.py",
    "doctor/doctor_cli.py",
    "doctor/store_checks.py",
    "dry_run.py",
    "endpoints/endpoints_cli.py",
    "history/history_cli.py",
    "evidence_cli.py",
    "evidence_client.py",
    "evidence_listing.py",
    "list_cli.py",
    "logs_cli.py",
    "render/render_cli.py",
    "render/service_reader.py",
    "store_locator.py",
    "unit_cli.py",
}
INTERFACES = {"unitagent.store.protocol"}  # records that say what a room gives; they do nothing
PURE = {
    "hashlib",
    "__future__",
    "dataclasses",
    "enum",
    "functools",
    "msgspec",
    "typing",
    "collections",
    "itertools",
}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 50


@functools.cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> Iterator[str]:
    """All modules that a file imports, at its head or late."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" if module == "unitagent" else module for alias in node.names)


def place(file: Path) -> str:
    """The room that a file is in, or its own name at the top of the package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def ours(file: Path) -> set[str]:
    """The rooms and top modules of this package that a file imports."""
    names = set(imported(file)) - INTERFACES
    return {name.split(".")[1] for name in names if name.startswith("unitagent.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_does_not_know_its_siblings_or_the_shell(file: Path) -> None:
    room = place(file)
    if room not in ROOMS:
        return
    assert not ours(file) & (ROOMS - {room}), "siblings never import each other"
    assert not ours(file) & SHELL, "imports run one way: shell, rooms, core"


@pytest.mark.parametrize("file", sorted((ROOT / "agent").glob("*.py")), ids=lambda file: file.name)
def test_an_agent_knows_no_operator(file: Path) -> None:
    assert not ours(file) & {"operator", "commands", "cli"}


@pytest.mark.parametrize("file", sorted((ROOT / "operator").rglob("*.py")), ids=str)
def test_what_an_operator_sees_is_made_of_what_it_is_given(file: Path) -> None:
    if str(file.relative_to(ROOT / "operator")) not in MEETING:
        assert not ours(file) & (ROOMS | {"agent"})


@pytest.mark.parametrize("file", sorted((ROOT / "core").glob("*.py")), ids=lambda file: file.name)
def test_what_changes_a_value_of_the_core_is_made_for_it(file: Path) -> None:
    """``dataclasses.replace`` knows no Struct, and mypy does not tell."""
    nodes = [node for node in ast.walk(tree(file)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in nodes if node.module == "dataclasses" for alias in node.names}
    assert not names & {"replace", "asdict", "fields"}


@pytest.mark.parametrize("file", sorted((ROOT / "core").glob("*.py")), ids=lambda file: file.name)
def test_the_core_is_pure(file: Path) -> None:
    outside = {name.split(".")[0] for name in imported(file)} - {"unitagent"}
    assert outside <= PURE
    assert ours(file) <= {"core"}
    names = {node.id for node in ast.walk(tree(file)) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "eval", "exec"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_large(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_whatever_is_printed_is_made_safe(file: Path) -> None:
    names = {node.id for node in ast.walk(tree(file)) if isinstance(node, ast.Name)}
    assert "print" not in names or file.name == "safe_output.py"


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = {part for file in FILES for part in file.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "helpers", "common", "manager", "misc"}


@pytest.mark.parametrize("file", sorted((ROOT / "system").glob("*.py")), ids=lambda file: file.name)
def test_the_system_layer_imports_no_room(file: Path) -> None:
    assert not ours(file) & (ROOMS | SHELL | {"settings", "core"})


def test_a_docstring_names_functions_that_exist() -> None:
    nodes = [node for file in FILES for node in ast.walk(tree(file))]
    defined = {
        node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    documented = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, documented)]
    named = {name for text in texts for name in re.findall(r":(?:func|meth|class):`~?(?:\w+\.)*(\w+)`", text)}
    assert len(named) > 20
    assert named - defined == set()
