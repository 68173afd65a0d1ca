"""A server of the test's own, that may be killed, hung and broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers import running
from unitagent.store.redis_store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

Open = "Callable[..., RedisStore]"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def warned() -> list[str]:
    """What stores of this test warned of."""
    return []


@pytest.fixture
def open_store(server: Server, warned: list[str]) -> Callable[..., RedisStore]:
    """Make a store of Unit ``u`` for a rank and an incarnation."""

    def make(rank: int | None = 0, incarnation: str = "a", url: str = "", timeout: float = 2.0) -> RedisStore:
        return RedisStore(
            "u", url or server.url, timeout=timeout, rank=rank, incarnation=incarnation, warn=warned.append
        )

    return make
