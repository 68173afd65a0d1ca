"""An agent works in ``/`` and its workload where the agent was started: what all relative paths mean."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.ports import free_port
from tests.waiting import DEADLINE, until
from unitagent.store.address import parse_store_url
from unitagent.system import working_directory

UNIT = f"where-{os.getpid()}"
ROOT = Path(__file__).parents[2]


class Started:
    """``unitagent run`` of size 1 in a folder with relative paths in everything."""

    def __init__(self, place: Path, *command: str, prefix: tuple[str, ...] = (), **variables: str) -> None:
        self.port = free_port()
        self.output = place.with_name(f"{place.name}.output")
        words = ["--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo", "--guard"]
        words += ["--http-address", f"127.0.0.1:{self.port}", "--unit", UNIT, "--backoff-seconds", "0"]
        env = clean(PYTHONPATH=str(ROOT), **variables)
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(
                [*prefix, *UNITAGENT, "run", *words, *(("--", *command) if command else ())],
                cwd=place, env=env, stdin=-3, stdout=file, stderr=file,
            )  # fmt: skip

    def said(self) -> str:
        return self.output.read_text()

    def waits_for(self, words: str) -> None:
        until(lambda: words in self.said() or self.popen.poll() is not None, f"it says {words}")
        assert words in self.said(), self.said()

    def close(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(DEADLINE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []
    here = tmp_path / "here"
    here.mkdir()

    def begin(*command: str, **given: str) -> Started:
        made.append(Started(here, *command, **given))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for one in made:
        if one.popen.poll() is None:
            one.close()


# To start it, the agent returns for a moment.
TELLS = """until [ "$(readlink /proc/$PPID/cwd)" = / ]; do sleep .1; done
echo "agent in /, workload in $(pwd), generation $UNIT_GENERATION."
"""


def script(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)


@pytest.mark.parametrize("command", ["./serve.sh", "bin/serve.sh", "serve.sh"])
def test_a_command_is_found_and_run_where_the_agent_was_started(
    start: Callable[..., Started], tmp_path: Path, command: str
) -> None:
    """The last one by a relative folder on PATH; after a crash as at the start."""
    here = tmp_path / "here"
    for place in (here, here / "bin"):
        script(place / "serve.sh", TELLS, "[ $UNIT_GENERATION = 2 ] || exit 3", "exec sleep 1000")
    unit = start(command, PATH=f"bin:{os.environ['PATH']}")
    for generation in (1, 2):
        unit.waits_for(f"agent in /, workload in {here}, generation {generation}.")
    assert unit.close() == 0


def test_what_variables_name_is_looked_for_where_the_agent_was_started(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    """A service file with a check by command, and a secret that changes while everything runs."""
    here = tmp_path / "here"
    script(here / "serve.sh", TELLS, "exec sleep 1000")
    script(here / "check.sh", f'echo "check in $(pwd)" >> {here}/checked')
    check = {"exec": {"command": ["./check.sh"]}, "period_seconds": 1}
    service = {"unit": {"size": 1}, "containers": [{"command": "./serve.sh", "startup_check": check}]}
    (here / "service.json").write_text(json.dumps(service))
    (here / "secret").write_text("0123456789abcdef\n")
    unit = start(UNIT_CONFIG="service.json", UNIT_SECRET_FILE="secret")  # noqa: S106 - the name of a file
    unit.waits_for(f"agent in /, workload in {here}, generation 1.")
    until(lambda: (here / "checked").exists() and (here / "checked").read_text().endswith("\n"), "it checks")
    assert (here / "checked").read_text().splitlines()[0] == f"check in {here}"
    (here / "new").write_text("abcdef0123456789\n0123456789abcdef\n")
    (here / "new").replace(here / "secret")
    unit.waits_for("UNIT_SECRET_FILE changed")
    assert unit.close() == 0


def test_a_folder_that_is_gone_ends_no_agent_without_a_word(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    """The second generation has nowhere to start."""
    here = tmp_path / "here"
    unit = start("sh", "-c", f"{TELLS} while [ -e {here} ]; do sleep .1; done; exit 3")
    unit.waits_for(f"workload in {here}, generation 1.")
    shutil.rmtree(here)
    unit.waits_for("the directory that this agent was started in cannot be entered any more")


def test_files_that_a_url_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(working_directory, "_start_directory", [])
    monkeypatch.chdir(tmp_path)
    working_directory.leave_start_directory()
    tls = parse_store_url("rediss://host?ssl_ca_certs=ca.pem&ssl_keyfile=/key.pem&ssl_check_hostname=no").tls
    assert tls == {
        "ssl_ca_certs": f"{tmp_path}/ca.pem",
        "ssl_keyfile": "/key.pem",
        "ssl_check_hostname": False,
    }


@pytest.mark.root
def test_the_volume_that_it_was_started_in_can_be_unmounted(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    inside = f'mount -t tmpfs tmpfs {volume} && cd {volume} && exec "$@"'
    unit = Started(
        volume, "sh", "-c", f"cd /; until umount {volume}; do sleep .1; done; echo unmounted; exec sleep 99",
        prefix=("unshare", "--mount", "--", "sh", "-c", inside, "sh"),
    )  # fmt: skip
    try:
        until(lambda: "unmounted\n" in unit.said(), "it is unmounted")
    finally:
        assert unit.close() == 0


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ])
def test_signals_that_python_ignores_are_the_workloads(start: Callable[..., Started], number: int) -> None:
    name = signal.Signals(number).name.removeprefix("SIG")
    unit = start("sh", "-c", f"trap 'echo heard {name}' {name}; echo begins; while :; do sleep .1; done")
    unit.waits_for("begins")
    unit.popen.send_signal(number)
    unit.waits_for(f"heard {name}")
    assert unit.close() == 0
