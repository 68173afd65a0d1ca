"""What ``unitagent render compose`` makes of a service file runs, in an image that has never heard of us."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import BARE, BUNDLE, Engine, fresh
from unitagent.rendering import rendered

pytestmark = pytest.mark.docker
PROGRAM = "/opt/unitagent/unitagent"
FILE = {
    "metadata": {"name": "chat", "instance": 1, "shm_size": 1, "memory": 500},
    "containers": [
        {"image": BARE, "script": "sh -c 'exec sleep 1000'", "env": [{"name": "A", "value": "$B"}]}
    ],
    "unit": {"size": 2, "guard": True},
}


@dataclass(frozen=True, slots=True)
class Project:
    """A Compose project that is up."""

    engine: Engine
    name: str
    file: Path

    def compose(self, *words: str) -> None:
        argv = [*_program(self.engine), "--project-name", self.name, "--file", str(self.file), *words]
        ended = subprocess.run(
            argv, env=self.engine.environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def container(self, rank: int) -> str:
        labels = (f"project={self.name}", f"service=chat-0-{rank}")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return self.engine.docker("ps", "--all", "--quiet", *filters)

    def status(self, rank: int) -> dict[str, Any]:
        said = self.engine.docker("exec", self.container(rank), PROGRAM, "status", "--json")
        found: dict[str, Any] = json.loads(said)
        return found

    def restarts(self, rank: int) -> int:
        """How often the engine has started the container again."""
        return int(self.engine.docker("inspect", "--format", "{{.RestartCount}}", self.container(rank)))


def _program(engine: Engine) -> list[str]:
    """Compose as a plugin of Docker, or the program of its own that it was before."""
    argv = ["docker", "compose", "version"]
    plugin = subprocess.run(argv, env=engine.environment, capture_output=True, check=False)
    if plugin.returncode == 0:
        return argv[:2]
    if not shutil.which("docker-compose"):
        pytest.skip("needs Compose: Docker's plugin, or docker-compose")
    return ["docker-compose"]


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "unit-secret").write_text("secret")
    file = tmp_path / "compose.yaml"
    file.write_text(rendered("compose", json.dumps(FILE), "service.json", BUNDLE)[0])
    here = Project(engine, fresh(), file)
    try:
        here.compose("up", "--detach")
        yield here
    finally:
        here.compose("down", "--volumes", "--timeout", "30")


def test_a_service_file_becomes_a_unit_that_restarts_in_place(project: Project) -> None:
    ranks = [project.container(0), project.container(1)]
    for name in ranks:
        project.engine.until(name, partial(project.engine.ready, name, PROGRAM))
    before = project.status(0)
    assert (before["unit"], before["size"], before["guard"]) == ("chat-0", 2, True)
    pid = next(one["pid"] for one in before["instances"] if one["rank"] == 1)
    project.engine.docker("exec", ranks[1], "sh", "-c", f"kill -9 {pid}")
    project.engine.until(ranks[0], lambda: project.status(0)["generation"] > before["generation"])
    for name in ranks:
        project.engine.until(name, partial(project.engine.ready, name, PROGRAM))
    after = project.status(1)
    assert (after["failure"]["rank"], after["failure"]["signal"], after["restarts"]) == (1, 9, 1)
    assert [project.restarts(rank) for rank in (0, 1)] == [0, 0]
