"""Victims for tests, each with a store that anybody may write to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.network.conftest import make_lab
from tests.security.victims import Victim
from tests.servers import Server, running

__all__ = ["make_lab"]

UNIT = f"attacked-{os.getpid()}"  # an agent ends what a dead one of its Unit left: not that of another run
MakeVictim = Callable[..., Victim]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def victim(tmp_path: Path, server: Server) -> Iterator[MakeVictim]:
    made: list[Victim] = []

    def make(rank: int, size: int = 2, **variables: str) -> Victim:
        made.append(Victim(tmp_path, UNIT, rank, size, server.url, **variables))
        return made[-1]

    yield make
    for one in made:
        one.close()
