"""One engine with the images, and the manifests, for all tests of this folder that need them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.engine import ROOT, Engine, build


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine that runs, or one for as long as the tests take; with the image built."""
    script, base = ROOT / "scripts" / "docker-engine.sh", ROOT / "scripts" / "docker-base.sh"
    with subprocess.Popen(
        ["bash", script, "sh", "-c", f'bash "{base}" >&2 && echo "up $DOCKER_HOST" && read _; :'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        up, _, host = running.stdout.readline().strip().partition(" ")
        if not up:
            pytest.skip("needs a Docker engine: a running one, or root and Debian's packages")
        here = Engine(os.environ | ({"DOCKER_HOST": host} if host else {}) | {"DOCKER_BUILDKIT": "0"})
        try:
            build(here, tmp_path_factory.mktemp("image"))
            yield here
        finally:
            here.remove()
            running.stdin.close()


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder docker, with its passwords made."""
    folder = tmp_path_factory.mktemp("manifests") / "docker"
    shutil.copytree(ROOT / "docker", folder, ignore=shutil.ignore_patterns("wheels", "secrets"))
    subprocess.run(["sh", folder / "secrets.sh"], check=True)
    return folder


@pytest.fixture(autouse=True)
def _containers(request: pytest.FixtureRequest) -> Iterator[None]:
    """No container outlives its test."""
    yield
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").remove()
