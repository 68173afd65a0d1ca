"""Packages that run late: nobody can tell, but by what has not been imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from unitagent.system.lazy_imports import defer_package_init

NAMES = ("lazybones", "lazybones.inner")


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose ``__init__`` imports all of its parts, with one inside that does so, too."""
    inner = tmp_path / "lazybones" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "lazybones" / "__init__.py").write_text("from lazybones import costly, inner\nVERSION = 7\n")
    (inner / "__init__.py").write_text("from lazybones.inner.part import WORD\nimport lazybones.costly\n")
    (tmp_path / "lazybones" / "costly.py").write_text("")
    (inner / "part.py").write_text("WORD = 'word'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazybones"]:
        del sys.modules[name]


def test_a_part_comes_without_the_rest() -> None:
    defer_package_init(*NAMES)
    assert import_module("lazybones.inner.part").WORD == "word"
    assert "lazybones.costly" not in sys.modules


def test_a_name_that_only_the_whole_has_is_there() -> None:
    defer_package_init(*NAMES)
    import_module("lazybones.inner.part")
    whole = import_module("lazybones")
    assert whole.VERSION == 7
    assert whole.inner.WORD == "word"
    assert whole.inner.part is sys.modules["lazybones.inner.part"]
    assert "lazybones.costly" in sys.modules


def test_a_part_that_is_asked_for_as_a_name_is_that_part_alone() -> None:
    defer_package_init("lazybones")
    assert import_module("lazybones").costly is sys.modules["lazybones.costly"]
    assert "lazybones.inner" not in sys.modules


def test_a_name_that_is_nowhere_is_an_error() -> None:
    defer_package_init(*NAMES)
    with pytest.raises(AttributeError, match="nothing"):
        _ = import_module("lazybones").nothing


def test_what_is_there_already_and_what_is_nowhere_is_left_alone() -> None:
    whole = import_module("lazybones")
    defer_package_init("lazybones", "no_such_package")
    assert sys.modules["lazybones"] is whole
    assert "no_such_package" not in sys.modules


def test_two_threads_that_look_at_once_both_find_the_name(tmp_path: Path) -> None:
    text = "import time\ntime.sleep(0.3)\nVERSION = 7\n"
    (tmp_path / "lazybones" / "__init__.py").write_text(text)
    defer_package_init("lazybones")
    whole = import_module("lazybones")
    with ThreadPoolExecutor(2) as threads:
        found = [threads.submit(lambda: whole.VERSION) for _ in range(2)]
    assert [one.result() for one in found] == [7, 7]


def test_a_package_that_cannot_run_tells_the_cause_each_time(tmp_path: Path) -> None:
    (tmp_path / "lazybones" / "__init__.py").write_text("import no_such_package\nVERSION = 7\n")
    defer_package_init("lazybones")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            _ = import_module("lazybones").VERSION
