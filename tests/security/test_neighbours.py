"""Another Unit's user on the same server, with the rights that SECURITY.md gives: what he reaches."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.entries import entry
from tests.listening import story
from tests.records import exchange, moment, record
from tests.servers import running
from unitagent import store
from unitagent.errors import StoreError
from unitagent.store.history import UnitHistory
from unitagent.store.keys import PERMISSIONS, REGISTRY
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry

SECURITY = (Path(__file__).resolve().parent.parent.parent / "SECURITY.md").read_text()
SCRIPTS = [script.read_bytes() for script in Path(store.__path__[0]).glob("*.lua")]
RIGHTS = f"on >pw resetkeys ~unitagent:{{u}}:* ~{REGISTRY} resetchannels &unitagent:{{u}}:* nocommands"
LOOP = "while true do end"
LIBRARY = f"#!lua name=x\nredis.register_function('f', function() {LOOP} end)"
LEAST = PERMISSIONS.replace("+eval ", "")


@story
async def test_scripts_that_an_administrator_loads_are_enough_for_who_may_bring_none(tmp_path: Path) -> None:
    """Whoever may bring scripts keeps a server busy for everybody; SECURITY.md says how to do without."""
    assert "leave `+eval` out" in SECURITY
    with running(tmp_path) as server:
        server.command("ACL", "SETUSER", "small", *RIGHTS.split(), *LEAST.split())
        url = f"redis://small:pw@127.0.0.1:{server.port}"
        mine = RedisStore("u", url, timeout=5, rank=0, incarnation="a")
        with pytest.raises(StoreError, match="does not permit this user"):
            await mine.exchange(exchange(record(0, "a")))
        for script in SCRIPTS:
            assert re.search(rb"[0-9a-f]{40}", server.command("SCRIPT", "LOAD", script))
        assert (await mine.exchange(exchange(record(0, "a")))).holder == "a"
        registry, history = Registry(url, timeout=5), UnitHistory("u", url, timeout=5)
        await registry.announce_endpoint(entry(), first=True)
        assert (await registry.read()).units
        await history.add_events([moment()], lambda: 5)
        for one in (mine, registry, history):
            await one.close()


@story
async def test_a_neighbour_brings_no_script_that_never_ends(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.command("ACL", "SETUSER", "small", *RIGHTS.split(), *LEAST.split())
        url = f"redis://small:pw@127.0.0.1:{server.port}"
        with closing(Redis.from_url(url, socket_timeout=5)) as neighbour:
            with pytest.raises(NoPermissionError):
                neighbour.eval(LOOP, 0)
            with pytest.raises(NoPermissionError):
                neighbour.script_load(LOOP)
            with pytest.raises(NoPermissionError):
                neighbour.function_load(LIBRARY)
        assert server.command("PING") == b"+PONG\r\n"
