"""Labs for tests: made for each test, torn down whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.network.lab import Lab

MakeLab = Callable[..., Lab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs network namespaces."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    """Make labs of any size; a lab that ends is checked for overlapping generations."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and process events need root")
    labs: list[Lab] = []

    def make(size: int, **options: bool) -> Lab:
        folder = tmp_path / str(len(labs))
        folder.mkdir()
        labs.append(Lab(size, folder, **options))
        return labs[-1]

    yield make
    for lab in labs:
        try:
            lab.check()
        finally:
            lab.close()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Three hosts and a store."""
    return make_lab(3)
