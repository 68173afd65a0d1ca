"""No secret is seen in anything that an agent says, shows, starts or stores; and few rights suffice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.solo import UNIT, Solo
from tests.servers import Server, running
from tests.waiting import DEADLINE, until
from unitagent.store.keys import PERMISSIONS

PASSWORD, QUOTED, SECRET = "p@ss/w0rd:of-the-store", "p%40ss%2Fw0rd%3Aof-the-store", "secret-of-the-unit"
TOLD_TO_NOBODY = (PASSWORD, QUOTED, SECRET)
VARIABLES = ("UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "UNIT_SECRET", "UNIT_SECRET_FILE")

Start = Callable[..., Solo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[Solo] = []

    def begin(*options: str, **variables: str) -> Solo:
        made.append(Solo(tmp_path, *options, prefix=(), **variables))
        return made[-1]

    yield begin
    for one in made:
        one.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that lets in a user with the documented rights, and nobody else."""
    with running(tmp_path) as server:
        rights = ("resetkeys", "~unitagent:*", "resetchannels", "&unitagent:*", "nocommands")
        server.command("ACL", "SETUSER", "small", "on", f">{PASSWORD}", *rights, *PERMISSIONS.split())
        yield server


def url(server: Server, password: str = QUOTED) -> str:
    return f"redis://small:{password}@127.0.0.1:{server.port}"


def everything(solo: Solo) -> dict[str, str]:
    """All that can be seen of a Unit, after a failure and after its end."""
    generation = solo.ready()["generation"]
    seen = {"processes": solo.command_lines()}
    os.kill(solo.status()["instances"][0]["pid"], signal.SIGKILL)
    solo.ready(generation)
    seen |= {path: solo.get(path) for path in ("/status", "/metrics", "/readyz?verbose", "/livez", "/")}
    commands = (["status"], ["status", "--json"], ["env"], ["env", "--format", "json"], ["doctor"])
    seen |= {" ".join(words): solo.run(*words) for words in commands}
    until((solo.folder / "env.2").exists, "the workload runs again")
    seen |= {file.name: file.read_text() for file in solo.folder.glob("env.*")}
    solo.popen.send_signal(signal.SIGTERM)
    assert solo.popen.wait(DEADLINE) == 0, solo.output.read_text()
    return seen | {"log": solo.output.read_text()}


def check(seen: dict[str, str]) -> None:
    assert all(seen[name] for name in ("processes", "/status", "status", "env", "env.1", "env.2", "log"))
    assert "permit" not in seen["log"]  # a right that was missing would be told
    found = [(where, word) for where, text in seen.items() for word in TOLD_TO_NOBODY if word in text]
    assert found == []
    for name in ("env.1", "env.2"):
        assert not {line.partition("=")[0] for line in seen[name].splitlines()} & set(VARIABLES)


def test_given_as_variables(start: Start, server: Server) -> None:
    check(everything(start(UNIT_REDIS_URL=url(server), UNIT_SECRET=SECRET)))
    stored = server.command("HGETALL", f"unitagent:{{{UNIT}}}:board").decode(errors="replace")
    assert '"rank"' in stored
    assert not any(word in stored for word in TOLD_TO_NOBODY)


def test_given_as_files(start: Start, server: Server, tmp_path: Path) -> None:
    files = {"UNIT_REDIS_URL_FILE": tmp_path / "url", "UNIT_SECRET_FILE": tmp_path / "secret"}
    files["UNIT_REDIS_URL_FILE"].write_text(url(server) + "\n")
    files["UNIT_SECRET_FILE"].write_text(SECRET + "\n")
    check(everything(start(**{name: str(path) for name, path in files.items()})))


def test_the_password_of_the_embedded_store(start: Start) -> None:
    check(everything(start(UNIT_SECRET=SECRET)))


def test_in_a_service_file(start: Start, server: Server, tmp_path: Path) -> None:
    """Its environment is what the agent reads, so what is hidden there has to be hidden too."""
    env = [{"name": "UNIT_REDIS_URL", "value": url(server)}, {"name": "UNIT_SECRET", "value": SECRET}]
    file = tmp_path / "service.json"
    file.write_text(json.dumps({"containers": [{"env": env}]}))
    check(everything(start(UNIT_CONFIG=str(file))))


@pytest.mark.parametrize("wrong", ["wr0ng%2Fone", "wr0ng%2Fone@host:6379/x"])
def test_a_url_that_is_refused(start: Start, server: Server, wrong: str) -> None:
    solo = start("--store-timeout-seconds", "1", UNIT_REDIS_URL=url(server, wrong), UNIT_SECRET=SECRET)
    assert solo.popen.wait(DEADLINE) in (2, 69)
    said = solo.output.read_text()
    assert "unitagent: error: " in said or "exit 69" in said
    assert not any(word in said for word in (*TOLD_TO_NOBODY, "wr0ng"))


def test_who_has_another_secret_at_the_same_store_is_told_so(start: Start, server: Server) -> None:
    first = ("--size", "2", "--backoff-seconds", "0")
    start(*first, UNIT_REDIS_URL=url(server), UNIT_SECRET=SECRET)
    until(lambda: b"r0" in server.command("HKEYS", f"unitagent:{{{UNIT}}}:board"), "rank 0 is there")
    second = start(*first, "--rank", "1", UNIT_REDIS_URL=url(server), UNIT_SECRET=SECRET[::-1])
    said = "signed with another UNIT_SECRET, or unsigned"
    until(lambda: said in second.output.read_text(), "it is told")
    assert "has run before" not in second.output.read_text()
