"""Imports run one way: cli -> agent -> rooms -> core. Small files, small functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unitagent"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = ("store", "workload", "discovery", "frameworks", "probes")
PURE = {
    "__future__",
    "dataclasses",
    "enum",
    "typing",
    "collections.abc",
    "collections",
    "itertools",
    "functools",
}
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, those for type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            yield from _targets(str(node.module), [alias.name for alias in node.names])


def _targets(module: str, names: list[str]) -> Iterator[str]:
    """``from package import module`` means the module."""
    folder = PACKAGE.parent / module.replace(".", "/")
    for each in names:
        inner = (folder / f"{each}.py").exists() or (folder / each).is_dir()
        yield f"{module}.{each}" if inner else module


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def allowed(here: str, module: str) -> bool:
    """Whether a file in this folder may import this module of ours."""
    if module in ("unitagent", "unitagent.errors"):
        return here != "core"
    target = module.split(".")[1]
    if here == "core":
        return target == "core"
    if here in ROOMS:
        return target in ("core", here)
    if here == "operator":
        return target not in ("cli", "agent", "startup", "views")
    return True


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    ours = [module for module in imports(path) if module.split(".")[0] == "unitagent"]
    assert [module for module in ours if not allowed(room(path), module)] == []


@pytest.mark.parametrize("path", [path for path in FILES if room(path) == "core"], ids=name)
def test_the_core_is_pure(path: Path) -> None:
    outside = {module for module in imports(path) if module.split(".")[0] != "unitagent"}
    assert outside <= PURE


def test_only_the_start_up_knows_the_agent() -> None:
    knowing = {name(path) for path in FILES if "unitagent.agent" in set(imports(path))}
    assert knowing == {"startup.py", "views.py"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, f"{name(path)}: {node.name}"


def test_one_place_waits_for_children() -> None:
    """A second ``waitpid`` would steal exit codes from the reaper."""
    waiting = {
        name(path)
        for path in FILES
        if any(
            word in path.read_text(encoding="utf-8") for word in ("os.waitpid(", "asyncio.create_subprocess")
        )
    }
    assert waiting == {"workload/reaper.py"}
