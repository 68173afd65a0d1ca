"""A store that is not reached at the start: the last line says where it was looked for, why it was not
reached and what to do; while it is tried, a warning says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean, unitagent
from tests.groups import cannot_save, one_sentinel, primary_and_replica
from tests.ports import free_port
from tests.servers import Server, running
from tests.store.test_access import Certificates
from tests.waiting import DEADLINE, until

SECRET = "wr0ng"  # noqa: S105
Url = Callable[[Path], contextlib.AbstractContextManager[str]]


def variables(url: str = "", timeout: str = "0", **others: str) -> dict[str, str]:
    """An agent of size 1 beside this store."""
    own = {"UNIT_ID": f"unreached-{os.getpid()}", "UNIT_SIZE": "1", "RANK_ID": "0", "RANK_IP": "127.0.0.1"}
    own |= {"COMM_IFNAME": "lo", "UNIT_HTTP_ADDRESS": f"127.0.0.1:{free_port()}", "UNIT_REDIS_URL": url}
    return own | {"UNIT_STORE_TIMEOUT_SECONDS": timeout, "UNIT_LOG_FORMAT": "text"} | others


def nobody(_: Path) -> contextlib.AbstractContextManager[str]:
    return contextlib.nullcontext(f"redis://127.0.0.1:{free_port()}")


def no_such_name(_: Path) -> contextlib.AbstractContextManager[str]:
    return contextlib.nullcontext("redis://no-such-host.invalid:6379")


@contextlib.contextmanager
def locked(folder: Path, form: str = "redis://:wr0ng@{}") -> Iterator[str]:
    with running(folder, password="right") as server:  # noqa: S106
        yield form.format(f"127.0.0.1:{server.port}")


@contextlib.contextmanager
def plain(folder: Path, form: str) -> Iterator[str]:
    with running(folder) as server:
        yield form.format(f"127.0.0.1:{server.port}")


@contextlib.contextmanager
def with_tls(folder: Path) -> Iterator[str]:
    files = Certificates(folder)
    own = ("--tls-cert-file", files["server.crt"], "--tls-key-file", files["server.key"])
    port = ("--tls-port", "{port}", "--tls-ca-cert-file", files["ca.crt"])
    with running(folder, plain=False, extra=(*port, *own)) as server:
        yield f"redis://127.0.0.1:{server.port}"


@contextlib.contextmanager
def replica(folder: Path) -> Iterator[str]:
    with primary_and_replica(folder) as (_, second):
        yield second.url


@contextlib.contextmanager
def sentinel(folder: Path, form: str) -> Iterator[str]:
    with running(folder) as server, one_sentinel(folder, server) as asked:
        yield form.format(f"127.0.0.1:{asked.port}")


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[str]:
    with cannot_save(folder) as server:
        yield server.url


CAUSES: dict[str, tuple[Url, str, str]] = {
    "nobody": (nobody, "Connection refused", "start the server"),
    "name": (no_such_name, "no-such-host.invalid:6379 cannot be reached: Name", "correct the host name"),
    "password": (locked, "refused the user or password", "correct them"),
    "none": (lambda at: locked(at, "redis://{}"), "requires a password", "redis://:PASSWORD@HOST"),
    "user": (lambda at: plain(at, "redis://nobody:wr0ng@{}"), "refused the user", "correct them"),
    "database": (lambda at: plain(at, "redis://{}/99"), "does not have the database", "databases"),
    "TLS": (lambda at: plain(at, "rediss://{}"), "does not answer in time", "write redis://"),
    "no TLS": (with_tls, "the store at 127.0.0.1", "write rediss://"),
    "replica": (replica, "is a read-only replica", "name the primary"),
    "service": (lambda at: sentinel(at, "redis+sentinel://{}/other"), "no primary for other", "correct that"),
    "no sentinel": (lambda at: plain(at, "redis+sentinel://{}/main"), "is not a sentinel", "write redis://"),
    "sentinel": (lambda at: sentinel(at, "redis://{}"), "lacks a command", "redis+sentinel://HOST"),
    "no cluster": (lambda at: plain(at, "redis+cluster://{}"), "is not a node of a cluster", "write redis://"),
    "disk": (full_disk, "cannot save to its disk", "free disk space"),
}  # fmt: skip


# Who claims a rank asks the store another way, and is refused in the same words.
CLAIMED = ("nobody", "password", "database", "replica", "no sentinel", "disk")


@pytest.mark.parametrize(
    ("cause", "rank"), [*((cause, "0") for cause in CAUSES), *((cause, "auto") for cause in CLAIMED)]
)
def test_the_last_line_says_where_why_and_what_to_do(tmp_path: Path, cause: str, rank: str) -> None:
    url, why, remedy = CAUSES[cause]
    with url(tmp_path) as given:
        done = unitagent("run", "--", "true", **variables(given, RANK_ID=rank))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 69, done.stderr
    assert why in last
    assert remedy in last
    assert "at the only attempt that UNIT_STORE_TIMEOUT_SECONDS=0 allows" in last
    where = given.rpartition("@")[2].rpartition("//")[2].partition("/")[0]
    assert where in last
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "variable", ["UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "UNIT_SECRET", "UNIT_SECRET_FILE"]
)
def test_a_wrong_password_is_told_by_the_variable_that_it_came_from(tmp_path: Path, variable: str) -> None:
    with running(tmp_path, password="right") as server:  # noqa: S106
        by_url = variable.startswith("UNIT_REDIS_URL")
        text = f"redis://:{SECRET}@127.0.0.1:{server.port}" if by_url else "another secret than rank 0 has"
        if variable.endswith("_FILE"):
            (tmp_path / "file").write_text(text)
            text = str(tmp_path / "file")
        there = {"UNIT_SIZE": "2", "RANK_ID": "1", "MASTER_ADDRESS": "127.0.0.1"}
        given = there | {"UNIT_STORE_PORT": str(server.port)} if not by_url else {}
        done = unitagent("run", "--", "true", **variables(**given | {variable: text}))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 69, done.stderr
    said = (
        f"password of {variable};" if by_url else f"password that {variable} gives; rank 0 has another secret"
    )
    assert said in last
    assert ("UNIT_SECRET" in last) != by_url


@pytest.mark.parametrize("rank", ["0", "auto"])
def test_one_try_is_enough_for_a_store_that_is_there(tmp_path: Path, rank: str) -> None:
    with running(tmp_path) as server:
        done = unitagent("run", "--mode", "job", "--", "true", **variables(server.url, RANK_ID=rank))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rank", ["0", "auto"])
def test_while_it_is_tried_each_cause_is_told_once(tmp_path: Path, rank: str) -> None:
    server = Server((), free_port(), tmp_path, password="right")  # noqa: S106
    output = tmp_path / "output"
    with contextlib.ExitStack() as ends:
        with output.open("wb") as file:
            agent = subprocess.Popen(
                [*UNITAGENT, "run", "--", "true"],
                env=clean(**variables(f"redis://:{SECRET}@127.0.0.1:{server.port}", "600", RANK_ID=rank)),
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        ends.callback(agent.wait, DEADLINE)
        ends.callback(agent.terminate)

        def told() -> list[str]:
            return [
                line
                for line in output.read_text().splitlines()
                if "the store has not been reached for" in line
            ]

        until(lambda: len(told()) == 1, "the first cause is told")
        ends.enter_context(running(tmp_path, password="right", port=server.port))  # noqa: S106
        until(lambda: len(told()) > 1, "another cause is told")
    causes = [line.partition("UNIT_STORE_TIMEOUT_SECONDS): ")[2] for line in told()]
    assert "Connection refused" in causes[0]
    assert "refused the user or password" in causes[-1]
    assert len(set(causes)) == len(causes)
    assert all(float(re.findall(r"for (\d+) s of at most 600 s", line)[0]) >= 3 for line in told())


@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
@pytest.mark.parametrize("leader", ["rank-0", "127.0.1.1"])
def test_a_leader_s_name_that_means_this_machine_is_told(tmp_path: Path, leader: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1 rank-0\n")
    inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc/hosts && shift && exec "$@"', "sh"]
    given = variables(UNIT_SIZE="2", RANK_ID="1", MASTER_ADDRESS=leader, UNIT_INSECURE="true")
    done = subprocess.run(
        [*inside, str(hosts), *UNITAGENT, "run", "--", "true"],
        env=clean(**given), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 69
    last = done.stderr.splitlines()[-1]
    means = "rank-0 means 127.0.1.1, which" if leader == "rank-0" else "127.0.1.1"
    assert f"{means} is this machine or container itself" in last
    assert "MASTER_ADDRESS if rank 0 has another address" in last
