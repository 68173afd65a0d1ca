"""A Compose project, by Docker's plugin or by the program of its own that Compose was before."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docker.engine import Engine, fresh


@dataclass(frozen=True, slots=True)
class Project:
    """A project of its own name.

    Attributes:
        file: the Compose file.
        settings: variables that the file asks for.

    """

    engine: Engine
    file: Path
    settings: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=fresh)

    def compose(self, *words: str) -> str:
        """Run Compose; what it prints."""
        argv = [*_program(self.engine), "--project-name", self.name, "--file", str(self.file), *words]
        ended = subprocess.run(
            argv,
            env=self.engine.environment | self.settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def containers(self, service: str) -> list[str]:
        """The containers of a service, those that have ended too."""
        labels = (f"project={self.name}", f"service={service}")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return self.engine.docker("ps", "--all", "--quiet", *filters).split()

    def restarts(self, container: str) -> int:
        """How often the engine has started a container again."""
        return int(self.engine.docker("inspect", "--format", "{{.RestartCount}}", container))


def told(manifest: str) -> str:
    """The commands that a manifest's comment says to run before its first start."""
    commands = [line.removeprefix("#   ") for line in manifest.splitlines() if line.startswith("#   ")]
    assert commands
    return "\n".join(commands)


def _program(engine: Engine) -> list[str]:
    argv = ["docker", "compose", "version"]
    plugin = subprocess.run(argv, env=engine.environment, capture_output=True, check=False)
    if plugin.returncode == 0:
        return argv[:2]
    if not shutil.which("docker-compose"):
        pytest.skip("needs Compose: Docker's plugin, or docker-compose")
    return ["docker-compose"]
