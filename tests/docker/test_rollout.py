"""A Unit that is a Compose project is replaced while requests come in, or stays when the new one fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import IMAGE, ROOT, Engine, fresh
from tests.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

ENGINE = ["python3", "/src/tests/traffic/programs/engine.py", "0.0.0.0", "8000"]
OUTSIDE = "unitagent-bare"  # Redis and HAProxy


class Rollouts:
    """The files of docker/rollout in a folder of their own, and what is made with them."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.name = fresh()
        self.folder = folder / "docker"
        shutil.copytree(ROOT / "docker", self.folder, ignore=shutil.ignore_patterns("wheels", "secrets"))
        subprocess.run(["sh", self.folder / "secrets.sh"], check=True)
        images = {"UNIT_IMAGE": IMAGE, "REDIS_IMAGE": OUTSIDE, "HAPROXY_IMAGE": OUTSIDE}
        names = {"UNITS_NETWORK": self.name, "TRAFFIC_PORT": str(free_port())}
        self.environment = engine.environment | images | names
        self.projects = [self.name]

    def compose(self, project: str, *words: str) -> None:
        known = subprocess.run(
            ["docker", "compose", "version"], env=self.environment, capture_output=True, check=False
        )
        program = ["docker", "compose"] if known.returncode == 0 else ["docker-compose"]
        subprocess.run([*program, "-p", project, *words], env=self.environment, check=True)

    def roll(self, new: str, *options: str, command: list[str] = ENGINE) -> subprocess.CompletedProcess[str]:
        """``scripts/rollout.sh`` with this command in place of the stand-in."""
        self.projects.append(new)
        instance = {"command": command, "volumes": [f"{ROOT}:/src:ro"], "environment": {"REVISION": new}}
        services = {"rank-0": instance, "rank-1": instance}
        override = self.folder / f"{new}.json"
        override.write_text(json.dumps({"version": "3.9", "services": services}))
        files = ["-f", str(self.folder / "rollout" / "unit.yaml"), "-f", str(override)]
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / "rollout.sh"), *files, *options, new],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def containers(self, project: str) -> set[str]:
        label = f"label=com.docker.compose.project={project}"
        return set(self.engine.docker("ps", "-a", "--no-trunc", "-q", "--filter", label).split())

    @contextmanager
    def traffic(self) -> Iterator[dict[str, Any]]:
        """Requests for the time of a block; what became of them is in the mapping afterwards."""
        told: dict[str, Any] = {}
        name = self.engine.run(
            *("--network", self.name, "--volume", f"{ROOT}:/src:ro", "--workdir", "/src"),
            *("--entrypoint", "python3"),
            command=("-m", "tests.traffic.client", "traffic", "8000"),
        )
        yield told
        self.engine.docker("stop", "--time", "60", name)
        told |= json.loads(self.engine.docker("logs", name).splitlines()[-1])

    def is_answered(self) -> bool:
        """Whether a request through the balancer is."""
        ask = "import urllib.request as r; r.urlopen('http://traffic:8000/0.1', timeout=5)"
        words = ("run", "--rm", "--network", self.name, "--entrypoint", "python3", IMAGE, "-c", ask)
        done = subprocess.run(["docker", *words], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def said(self) -> str:
        """What HAProxy did with each request."""
        return "".join(self.engine.docker("logs", one) for one in self.containers(self.name))

    def remove(self) -> None:
        for project in reversed(self.projects):
            containers = self.containers(project)
            if containers:
                self.engine.docker("rm", "--force", "--volumes", *containers, code=None)
        self.engine.remove()
        self.engine.docker("network", "rm", self.name, code=None)


@pytest.fixture(scope="module")
def rollouts(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:
    if not (
        shutil.which("docker-compose") or Path("/usr/libexec/docker/cli-plugins/docker-compose").exists()
    ):
        pytest.skip("needs docker compose, or docker-compose")
    made = Rollouts(engine, tmp_path_factory.mktemp("rollout"))
    try:
        made.compose(made.name, "-f", str(made.folder / "rollout" / "traffic.yaml"), "up", "-d")
        done = made.roll(f"{made.name}-1")
        assert done.returncode == 0, done.stderr
        engine.until(made.is_answered)  # the Unit is ready, and the balancer has yet to see it
        yield made
    finally:
        made.remove()


def test_a_new_unit_takes_over_without_a_dropped_request(rollouts: Rollouts) -> None:
    old, new = f"{rollouts.name}-1", f"{rollouts.name}-2"
    with rollouts.traffic() as told:
        done = rollouts.roll(new, "--from", old)
        assert done.returncode == 0, done.stderr
    assert told["failed"] == [], rollouts.said()
    assert set(told["answered"]) == {old, new}
    assert not rollouts.containers(old)
    assert len(rollouts.containers(new)) == 2


def test_a_unit_that_does_not_become_ready_is_taken_back(rollouts: Rollouts) -> None:
    standing, broken = f"{rollouts.name}-2", f"{rollouts.name}-3"
    before = rollouts.containers(standing)
    with rollouts.traffic() as told:
        done = rollouts.roll(
            broken,
            "--from",
            standing,
            "--timeout",
            "15",
            command=["sh", "-c", "echo no model; sleep 1; exit 1"],
        )
    assert done.returncode == 1
    assert "is not ready after 15 s" in done.stderr
    assert "no model" in done.stderr
    assert f"{standing} stays" in done.stderr
    assert told["failed"] == [], rollouts.said()
    assert set(told["answered"]) == {standing}
    assert not rollouts.containers(broken)
    assert rollouts.containers(standing) == before


def test_traffic_that_cannot_be_diverted_takes_the_new_unit_back(rollouts: Rollouts) -> None:
    standing, new = f"{rollouts.name}-2", f"{rollouts.name}-4"
    note = rollouts.folder / "note"
    done = rollouts.roll(new, "--from", standing, "--divert", f'echo "$OLD $NEW" >{note}; exit 1')
    assert done.returncode == 1
    assert note.read_text() == f"{standing} {new}\n"
    assert not rollouts.containers(new)
    assert len(rollouts.containers(standing)) == 2


def test_a_new_unit_that_fails_after_the_diversion_gives_the_traffic_back(rollouts: Rollouts) -> None:
    standing, new = f"{rollouts.name}-2", f"{rollouts.name}-6"
    before = rollouts.containers(standing)
    note = rollouts.folder / "moves"
    # A container that somebody has killed is not started again, so that the new Unit stays incomplete.
    kill = "docker kill $(docker ps -q --filter label=com.docker.compose.project=$NEW | head -n 1)"
    divert = f'echo "$OLD $NEW $(docker ps -q | wc -l)" >>{note}; [ "$NEW" = {standing} ] || {kill}'
    with rollouts.traffic() as told:
        done = rollouts.roll(new, "--from", standing, "--divert", divert)
    assert done.returncode == 1
    assert f"it is not ready any more; {new} is deleted, {standing} stays" in done.stderr
    there, back = (line.rsplit(" ", 1) for line in note.read_text().splitlines())
    assert [there[0], back[0]] == [f"{standing} {new}", f"{new} {standing}"]
    assert int(back[1]) == int(there[1]) - 1, "the new Unit is deleted after the way back, not before"
    assert set(told["answered"]) <= {standing, new}
    assert not rollouts.containers(new)
    assert rollouts.containers(standing) == before


def test_one_name_for_two_revisions_is_one_barrier_for_neither(rollouts: Rollouts) -> None:
    standing, new = f"{rollouts.name}-2", f"{rollouts.name}-5"
    (rollouts.folder / "same.json").write_text(
        json.dumps(
            {
                "version": "3.9",
                "services": {f"rank-{n}": {"environment": {"UNIT_ID": standing}} for n in (0, 1)},
            }
        )
    )
    with rollouts.traffic() as told:
        done = rollouts.roll(
            new, "-f", str(rollouts.folder / "same.json"), "--from", standing, "--timeout", "15"
        )
    assert done.returncode == 1
    assert told["failed"] == [], rollouts.said()
    assert set(told["answered"]) == {standing}
    assert len(rollouts.containers(standing)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one project NEW is expected"),
        (["--from", "a", "a"], "a new Unit is a new project"),
        (["--timeout", "soon", "a"], "'soon' is not a whole number of seconds"),
        (["--what", "a"], "unknown option --what"),
        (["--timeout", "08", "a", "b"], "one project NEW is expected"),
    ],
)
def test_wrong_words_are_told_before_anything_is_made(words: list[str], said: str) -> None:
    argv = ["bash", str(ROOT / "scripts" / "rollout.sh"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ, check=False, timeout=30)
    assert done.returncode == 2
    assert said in done.stderr
