"""What ``unitagent render compose`` makes of a service file runs, in an image that has never heard of us."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine import BARE, BUNDLE, Engine
from tests.docker.project import Project
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


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "unit-secret").write_text("secret")
    file = tmp_path / "compose.yaml"
    file.write_text(rendered("compose", json.dumps(FILE), "service.json", BUNDLE)[0])
    here = Project(engine, file)
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
