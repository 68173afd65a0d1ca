"""What a real server is asked: every right that is missing is found, and nothing is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, redis_binary, running, valkey_binary
from unitagent.errors import StoreError
from unitagent.operator.doctor.store_checks import StoreAnswers, query_store
from unitagent.store.keys import PERMISSIONS, KeyNames


@pytest.fixture(scope="module", params=[redis_binary, valkey_binary], ids=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), binary=request.param()) as started:
        yield started


def asked(url: str, timeout: float = 5) -> StoreAnswers:
    return asyncio.run(query_store(lambda: url, KeyNames("u"), timeout, embedded=False))


def allow(server: Server, *rights: str) -> str:
    server.command("ACL", "DELUSER", "small")
    server.command("ACL", "SETUSER", "small", "on", ">pw", "~unitagent:*", "&unitagent:*", *rights)
    return f"redis://small:pw@127.0.0.1:{server.port}"


def test_the_least_rights_suffice_and_nothing_is_written(server: Server) -> None:
    before = server.command("INFO", "persistence")
    seen = asked(allow(server, *PERMISSIONS.split()))
    assert seen.refused == []
    assert abs(seen.ahead) < 1
    assert all(took >= 0 for took in seen.seconds)
    assert server.command("DBSIZE") == b":0\r\n"
    assert changes(server.command("INFO", "persistence")) == changes(before)


def changes(about: bytes) -> bytes:
    return next(line for line in about.splitlines() if line.startswith(b"rdb_changes_since_last_save"))


@pytest.mark.parametrize("missing", [word for word in PERMISSIONS.split() if word != "+hsetnx"])
def test_a_right_that_is_missing_is_named(server: Server, missing: str) -> None:
    url = allow(server, *(word for word in PERMISSIONS.split() if word != missing))
    if missing == "+time":  # without it nothing can be asked
        with pytest.raises(StoreError, match="does not permit"):
            asked(url)
        return
    assert [one.commands for one in asked(url).refused] == [(missing.removeprefix("+").upper(),)]


def test_a_replica_is_no_place_to_write_to(server: Server, tmp_path: Path) -> None:
    extra = ["--replicaof", f"127.0.0.1 {server.port}"]
    with running(tmp_path, binary=server.argv[0], extra=extra) as replica:
        deadline = time.monotonic() + 10
        while b"master_link_status:up" not in replica.command("INFO", "replication"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert any("read-only replica" in one.what for one in asked(replica.url).refused)


def test_a_server_that_hangs_is_given_up(server: Server) -> None:
    server.pause()
    try:
        with pytest.raises(StoreError, match="does not answer in time"):
            asked(server.url, timeout=0.3)
    finally:
        server.resume()
