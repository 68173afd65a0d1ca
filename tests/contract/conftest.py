"""Every store that the contract holds for, behind one way to make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.fakestore import FakeServer, FakeSpares, FakeStore
from tests.servers import old_redis_binary, old_valkey_binary, redis_binary, running, valkey_binary
from unitagent.store.redis_store import RedisStore
from unitagent.store.spare_list import UnitSpares
from unitagent.system.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from unitagent.store.protocol import SpareList, Store

BACKENDS = {
    "redis": redis_binary,
    "redis 6.2": old_redis_binary,
    "valkey": valkey_binary,
    "valkey 8": old_valkey_binary,
}


@dataclass
class Board:
    """One empty Unit, and agents that look at it."""

    server: Server | None
    fake: FakeServer

    def store(self, rank: int | None = None, incarnation: str = "") -> Store:
        if self.server is None:
            return FakeStore(self.fake, rank, incarnation)
        return RedisStore("u", self.server.url, timeout=5, rank=rank, incarnation=incarnation)

    def spares(self, *secrets: str) -> SpareList:
        if self.server is None:
            return FakeSpares(self.fake)
        return UnitSpares("u", self.server.url, size=3, timeout=5, keys=Keyring(*secrets))

    def wipe(self) -> None:
        if self.server is None:
            self.fake.state.wipe()
        else:
            assert self.server.command("FLUSHALL") == b"+OK\r\n"


@pytest.fixture(scope="session", params=["fake", *BACKENDS])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | None]:
    if request.param == "fake":
        yield None
        return
    binary = BACKENDS[request.param]()
    if binary is None:
        pytest.skip(f"no {request.param} server here")
    directory: Path = tmp_path_factory.mktemp(request.param)
    with running(directory, binary=binary) as server:
        yield server


@pytest.fixture
def board(backend: Server | None) -> Board:
    made = Board(backend, FakeServer())
    made.wipe()
    return made
