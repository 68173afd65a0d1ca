"""What ``unitagent render compose`` makes of a service file runs, in an image that has never heard of us."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine import BARE, BUNDLE, ROOT, Engine
from tests.docker.project import Project, told
from unitagent.operator.render.render_cli import render_manifest

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
PROGRAM = "/opt/unitagent/unitagent"
FILE = {
    "metadata": {"name": "chat", "instance": 1, "shm_size": 1, "memory": 500},
    "containers": [
        {"image": BARE, "script": "sh -c 'exec sleep 1000'", "env": [{"name": "A", "value": "$B"}]}
    ],
    "unit": {"size": 2, "guard": True},
}


def made(folder: Path) -> Path:
    """The file, with what it says to do first done by somebody whose files nobody else may read."""
    file = folder / "compose.yaml"
    file.write_text(render_manifest("compose", json.dumps(FILE), "service.json", BUNDLE)[0])
    subprocess.run(["sh", "-euc", f"umask 077; {told(file.read_text())}"], cwd=folder, check=True)
    assert (folder / "secrets" / "unit-secret").stat().st_mode & 0o777 == 0o644
    return file


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    here = Project(engine, made(tmp_path))
    try:
        here.compose("up", "--detach")
        yield here
    finally:
        here.compose("down", "--volumes", "--timeout", "30")


def test_a_service_file_becomes_a_unit_that_restarts_in_place(engine: Engine, project: Project) -> None:
    ranks = [*project.containers("chat-0-0"), *project.containers("chat-0-1")]
    for name in ranks:
        engine.until(partial(engine.ready, name, PROGRAM))
    before = engine.status(ranks[0], PROGRAM)
    assert (before["unit"], before["size"], before["guard"]) == ("chat-0", 2, True)
    pid = next(one["pid"] for one in before["instances"] if one["rank"] == 1)
    engine.docker("exec", ranks[1], "sh", "-c", f"kill -9 {pid}")
    engine.until(lambda: engine.generation(ranks[0], PROGRAM) > before["generation"])
    for name in ranks:
        engine.until(partial(engine.ready, name, PROGRAM))
    after = engine.status(ranks[1], PROGRAM)
    assert (after["failure"]["rank"], after["failure"]["signal"], after["restarts"]) == (1, 9, 1)
    assert [project.restarts(name) for name in ranks] == [0, 0]


def test_rollout_replaces_a_unit_whose_agent_is_carried_in(engine: Engine, tmp_path: Path) -> None:
    file = made(tmp_path)
    old, new = Project(engine, file), Project(engine, file)
    rolls = ["bash", str(ROOT / "scripts" / "rollout.sh"), "-f", str(file), "--settle", "0"]

    def roll(*words: str) -> None:
        done = subprocess.run(
            [*rolls, *words], env=engine.environment | {"UNITAGENT": PROGRAM}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    try:
        roll(old.name)
        roll("--from", old.name, "--divert", f'echo "$OLD to $NEW" >{tmp_path}/note', new.name)
        assert (tmp_path / "note").read_text() == f"{old.name} to {new.name}\n"
        (leader,) = new.containers("chat-0-0")
        assert engine.ready(leader, PROGRAM)
        for kind in ("container", "network", "volume"):
            words = (kind, "ls", "--quiet", "--filter", f"label=com.docker.compose.project={old.name}")
            assert not engine.docker(*words), kind
    finally:
        for project in (old, new):
            project.compose("down", "--volumes", "--timeout", "30")
