"""Getting in: passwords, ACL, TLS with client certificates, socket files; and what is said to who may not."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.entries import entry
from tests.groups import one_node, one_sentinel
from tests.listening import Heard, story, until
from tests.records import exchange, failed, moment, record
from tests.servers import running
from unitagent.core.model import Order, OrderKind
from unitagent.errors import StoreError
from unitagent.store import redis_store, store_connection
from unitagent.store.history import UnitHistory
from unitagent.store.keys import CLUSTER, PERMISSIONS, REGISTRY, SELECT, SENTINEL
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

SECRET = "s3cret/@:#é"  # noqa: S105
QUOTED = "s3cret%2F%40%3A%23%C3%A9"
MINE = exchange(record(0, "a"), failure=failed(1), notify=True)


def store(url: str) -> RedisStore:
    return RedisStore("u", url, timeout=5, rank=0, incarnation="a")


async def refused(url: str) -> str:
    with pytest.raises(StoreError) as raised:
        await store(url).exchange(MINE)
    assert SECRET not in str(raised.value)
    assert QUOTED not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, password=SECRET) as server:
        yield server


@story
async def test_the_right_password_opens_and_a_wrong_one_is_named(locked: Server) -> None:
    host = f"127.0.0.1:{locked.port}"
    assert (await store(f"redis://:{QUOTED}@{host}").exchange(MINE)).holder == "a"
    assert (await store(f"redis://default:{QUOTED}@{host}/0").exchange(MINE)).holder == "a"
    wrong = f"the store at {host} refused the user or password of UNIT_REDIS_URL"
    assert (await refused(f"redis://:wrong@{host}")).startswith(wrong)
    assert (await refused(f"redis://nobody:{QUOTED}@{host}")).startswith(wrong)
    assert "requires a password; give one in UNIT_REDIS_URL" in await refused(f"redis://{host}")


@story
async def test_a_password_for_a_server_without_one_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert "has no password" in await refused(f"redis://:{QUOTED}@127.0.0.1:{server.port}")


@story
async def test_a_user_with_the_least_permissions_can_do_everything(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        let_in(server, PERMISSIONS)
        url = f"redis://small:pw@127.0.0.1:{server.port}"
        mine = store(url)
        async with Heard(RedisStore("u", url, timeout=5, incarnation="b")) as heard:
            assert (await mine.exchange(MINE)).holder == "a"
            await until(lambda: heard.count == 1)
        server.command("SET", "unitagent:{u}:changes", "of another type")
        server.command("SCRIPT", "FLUSH")
        assert (await mine.exchange(MINE)).holder == "a"
        await mine.put_order(Order(kind=OrderKind.DRAIN, generation=1))
        await mine.put_output(1, 0, ["line"])
        assert await mine.read_output(1) is not None
        assert set((await mine.read()).records) == {0}
        history = UnitHistory("u", url, timeout=5)
        await history.add_events([moment()], lambda: 5)
        assert len((await history.read()).events) == 1
        assert len((await history.read_latest(9)).events) == 1


# The lack of HMGET costs nothing but time (``test_quiet_heartbeat.py``).
@pytest.mark.parametrize("missing", [word for word in PERMISSIONS.split() if word != "+hmget"])
def test_no_permission_on_the_list_is_superfluous(
    shared: Server, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        store_connection, "SILENCE", 0.05
    )  # after it the subscription asks whether the server is there

    @story
    async def tell() -> None:
        allowed = [word for word in PERMISSIONS.split() if word != missing]
        shared.command("FLUSHALL")
        shared.command("SCRIPT", "FLUSH")
        shared.command("ACL", "DELUSER", "small")
        shared.command("SET", "unitagent:{u}:changes", "of another type")
        shared.command(*("ACL", "SETUSER", "small", "on", ">pw", "~unitagent:*", "&unitagent:*", *allowed))
        url = f"redis://small:pw@127.0.0.1:{shared.port}"
        mine = RedisStore("u", url, timeout=5, rank=0, incarnation="a", warn=said.append)
        heard: list[None] = []
        listening = asyncio.create_task(mine.listen(lambda: heard.append(None)))
        try:
            await until(lambda: bool(heard or said))
            for _ in range(2):
                await mine.exchange(MINE)
            await mine.put_output(1, 0, ["line"])
            await mine.read_output(1)
            await mine.read()
            history = UnitHistory("u", url, timeout=5)
            await history.add_events([moment()], lambda: 5)
            await history.read()
            await history.read_latest(9)
            await Registry(url, timeout=5).read()
            await until(refused)
        except StoreError as error:
            said.append(str(error))
        listening.cancel()

    def refused() -> bool:
        return any("does not permit this user" in text for text in said)

    said: list[str] = []
    tell()
    assert refused(), said


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("acl")) as server:
        yield server


SECURITY = Path(__file__).parents[2] / "SECURITY.md"


def test_the_documented_acl_lines_are_those_that_work() -> None:
    page = SECURITY.read_text(encoding="utf-8")
    for words in (PERMISSIONS, SELECT, CLUSTER, SENTINEL):
        assert words in page
        assert words in " ".join(str(redis_store.__doc__).split())


@story
async def test_the_user_of_a_unit_has_no_right_in_another(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        let_in(server, PERMISSIONS)
        url = f"redis://small:pw@127.0.0.1:{server.port}"
        assert (await store(url).exchange(MINE)).holder == "a"
        await Registry(url, timeout=5).announce_endpoint(entry("u"), first=True)
        other = RedisStore("v", url, timeout=5, rank=0, incarnation="a")
        with pytest.raises(StoreError, match="does not permit this user"):
            await other.exchange(MINE)
        async with Heard(store(url)) as heard:  # its own channel is open to it
            await RedisStore("u", url, timeout=5, incarnation="b").exchange(exchange(notify=True))
            await until(lambda: heard.count == 1)


def let_in(server: Server, *permissions: str) -> None:
    """Give the user ``small`` these permissions, and no other."""
    allowed = [word for words in permissions for word in words.split()]
    keys = (
        "resetkeys",
        "~unitagent:{u}:*",
        f"~{REGISTRY}",
        "resetchannels",
        "&unitagent:{u}:*",
        "nocommands",
    )
    assert server.command("ACL", "SETUSER", "small", "on", ">pw", *keys, *allowed) == b"+OK\r\n"


@story
async def test_a_database_needs_one_permission_more(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"redis://small:pw@127.0.0.1:{server.port}/1"
        let_in(server, PERMISSIONS)
        assert "does not permit this user" in await refused(url)
        let_in(server, PERMISSIONS, SELECT)
        assert (await store(url).exchange(MINE)).holder == "a"
        async with Heard(store(url)) as heard:
            await RedisStore("u", url, timeout=5, incarnation="b").exchange(exchange(notify=True))
            await until(lambda: heard.count == 1)


@story
async def test_sentinels_need_to_permit_one_question(tmp_path: Path) -> None:
    with running(tmp_path) as primary, one_sentinel(tmp_path, primary) as sentinel:
        let_in(primary, PERMISSIONS)
        login = "sentinel_username=small&sentinel_password=pw"
        url = f"redis+sentinel://small:pw@127.0.0.1:{sentinel.port}/main?{login}"
        let_in(sentinel, "+ping")
        assert "does not permit this user" in await refused(url)
        let_in(sentinel, SENTINEL)
        assert (await store(url).exchange(MINE)).holder == "a"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Server]:
    with one_node(tmp_path) as started:
        yield started


@story
async def test_a_cluster_needs_one_permission_more(node: Server) -> None:
    url = f"redis+cluster://small:pw@127.0.0.1:{node.port}"
    let_in(node, PERMISSIONS)
    assert "does not permit this user" in await refused(url)
    let_in(node, PERMISSIONS, CLUSTER)
    assert (await store(url).exchange(MINE)).holder == "a"


@story
async def test_a_socket_file_is_a_store_too(tmp_path: Path) -> None:
    with running(tmp_path, plain=False, password=SECRET) as server:
        url = f"unix://:{QUOTED}@{server.socket_path}"
        assert (await store(url).exchange(MINE)).holder == "a"
        async with Heard(store(url)) as heard:
            await RedisStore("u", url, timeout=5, incarnation="b").exchange(exchange(notify=True))
            await until(lambda: heard.count == 1)
        assert "refused the user or password" in await refused(f"unix://:wrong@{server.socket_path}")
    assert f"{server.socket_path} cannot be reached" in await refused(f"unix://{server.socket_path}")


@story
async def test_a_database_of_its_own_is_used(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        await store(url + "/1").exchange(MINE)
        assert (await store(url).exchange(exchange())).records == {}
        assert set((await store(url + "/1").exchange(exchange())).records) == {0}
        assert "does not have the database" in await refused(url + "/99")


@story
async def test_the_url_is_asked_for_at_each_connect(tmp_path: Path) -> None:
    urls = ["redis://127.0.0.1:1"]
    with running(tmp_path) as server:
        mine = RedisStore("u", lambda: urls[-1], timeout=5, rank=0, incarnation="a")
        with pytest.raises(StoreError, match="Connection refused"):
            await mine.exchange(MINE)
        urls.append(server.url)
        assert (await mine.exchange(MINE)).holder == "a"


@story
async def test_a_url_that_cannot_be_read_or_understood_is_told(tmp_path: Path) -> None:
    missing = RedisStore("u", (tmp_path / "url").read_text, timeout=5)
    with pytest.raises(StoreError, match=r"the URL of the store cannot be read: .*No such file"):
        await missing.exchange(MINE)
    (tmp_path / "url").write_text("nonsense")
    with pytest.raises(StoreError, match="UNIT_REDIS_URL: unknown scheme"):
        await missing.exchange(MINE)


class Certificates:
    """A root, and what it signed for a server ``localhost`` and for a client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._openssl("req", "-x509", *self._new("ca"), "-subj", "/CN=root", "-days", "2")
        for name in ("server", "client"):
            self._openssl("req", *self._new(name), "-subj", f"/CN={name}")
            (directory / "names").write_text("subjectAltName=DNS:localhost")
            self._openssl(
                *(
                    "x509",
                    "-req",
                    "-in",
                    self[f"{name}.crt"],
                    "-CA",
                    self["ca.crt"],
                    "-CAkey",
                    self["ca.key"],
                ),
                *("-CAcreateserial", "-days", "2", "-extfile", self["names"], "-out", self[f"{name}.crt"]),
            )

    def __getitem__(self, name: str) -> str:
        return str(self.directory / name)

    def _new(self, name: str) -> tuple[str, ...]:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*key, "-keyout", self[f"{name}.key"], "-out", self[f"{name}.crt"])

    @staticmethod
    def _openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls(tmp_path: Path, certificates: Certificates) -> Iterator[Server]:
    port = ("--tls-port", "{port}", "--tls-ca-cert-file", certificates["ca.crt"])
    own = ("--tls-cert-file", certificates["server.crt"], "--tls-key-file", certificates["server.key"])
    with running(tmp_path, plain=False, extra=(*port, *own)) as server:
        yield server


@story
async def test_tls_with_client_certificates(tls: Server, certificates: Certificates) -> None:
    root = f"ssl_ca_certs={certificates['ca.crt']}"
    client = f"ssl_certfile={certificates['client.crt']}&ssl_keyfile={certificates['client.key']}"
    url = f"rediss://localhost:{tls.port}?{root}&{client}"
    assert (await store(url).exchange(MINE)).holder == "a"
    async with Heard(store(url)) as heard:
        await RedisStore("u", url, timeout=5, incarnation="b").exchange(exchange(notify=True))
        await until(lambda: heard.count == 1)

    assert "cannot be reached" in await refused(f"rediss://localhost:{tls.port}?{client}")  # unknown root
    by_number = f"rediss://127.0.0.1:{tls.port}?{root}&{client}"
    assert "127.0.0.1" in await refused(by_number)  # not a name in the certificate
    assert (await store(by_number + "&ssl_check_hostname=false").exchange(MINE)).holder == "a"
    assert (
        await store(f"rediss://127.0.0.1:{tls.port}?{client}&ssl_cert_reqs=none").exchange(MINE)
    ).holder == "a"
    assert str(tls.port) in await refused(f"rediss://localhost:{tls.port}?{root}")  # no client certificate
    assert str(tls.port) in await refused(f"redis://localhost:{tls.port}")  # no TLS at all
    absent = f"rediss://localhost:{tls.port}?ssl_ca_certs=/nowhere/ca.crt"
    assert "No such file" in await refused(absent)
