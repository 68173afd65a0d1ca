"""The bundle needs nothing of the image that it is put into, and leaves the workload its environment."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docker.engine import BARE, BUNDLE, ROOT, Engine, fresh

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = "/opt/unitagent/unitagent"
CARRIED = "unitagent-test-carried"
DOCKERFILE = f"""\
FROM {BARE}
COPY --from={BUNDLE} /opt/unitagent /opt/unitagent
ENTRYPOINT ["{PROGRAM}", "run", "--"]
"""
SLEEP = ("sleep", "1000")
NOTHING = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "54321:54321", "--cap-drop", "ALL"),  # noqa: S108
    *("--security-opt", "no-new-privileges"),
)
EVERYTHING = """
import importlib, pkgutil, unitagent
for found in pkgutil.walk_packages(unitagent.__path__, "unitagent."):
    if not found.name.endswith("__main__"):
        print(importlib.import_module(found.name).__name__)
"""


@pytest.fixture(scope="module")
def carried(engine: Engine) -> str:
    """An image without Python that was given the bundle."""
    argv = ["docker", "build", "--network", "none", "--tag", CARRIED, "-"]
    ended = subprocess.run(
        argv, input=DOCKERFILE, env=engine.environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return CARRIED


# A volume that is empty gets what the image has there; an init container's is filled by the bundle itself.
FILLS = [
    ("--volume", "{}:/opt/unitagent", BUNDLE, "--version"),
    ("--volume", "{}:/agent", BUNDLE, "--copy-to", "/agent"),
]


@pytest.fixture(params=FILLS, ids=["filled", "copied"])
def volume(engine: Engine, request: pytest.FixtureRequest) -> str:
    """A volume that holds the bundle."""
    name = fresh()
    engine.undoing.append(("volume", "rm", name))
    engine.docker("run", "--rm", *(word.replace("{}", name) for word in request.param))
    return name


def test_it_runs_where_no_python_is(engine: Engine, carried: str) -> None:
    name = engine.run(image=carried, command=SLEEP)
    engine.until(lambda: engine.ready(name, PROGRAM))
    assert not engine.docker("exec", name, "find", "/usr/bin", "/usr/lib", "/usr/local", "-name", "*python3*")
    engine.docker("stop", "--time", "60", name)
    assert engine.state(name)["ExitCode"] == 0


def test_it_needs_no_rights_no_user_and_no_writable_image(engine: Engine, carried: str) -> None:
    name = engine.run(*NOTHING, image=carried, command=SLEEP)
    engine.until(lambda: engine.ready(name, PROGRAM))


def test_a_volume_carries_it_into_an_image_as_it_is(engine: Engine, volume: str) -> None:
    places = ("--volume", f"{volume}:/opt/unitagent:ro", "--entrypoint", PROGRAM)
    name = engine.run(*places, *NOTHING, image=BARE, command=("run", "--", *SLEEP))
    engine.until(lambda: engine.ready(name, PROGRAM))


def test_a_disk_that_is_full_is_said_in_one_line(engine: Engine) -> None:
    full = ("--tmpfs", "/agent:size=1m", "--name", fresh())
    engine.undoing.append(("rm", "--force", full[-1]))
    said = engine.docker("run", *full, BUNDLE, "--copy-to", "/agent", code=1)
    assert re.fullmatch(r"unitagent: error: /agent\S*: No space left on device", said)


def test_a_folder_that_is_no_bundle_is_not_replaced_by_one(tmp_path: Path) -> None:
    kept = tmp_path / "thesis.tex"
    kept.touch()
    argv = ["bash", str(ROOT / "scripts" / "bundle.sh"), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert f"{tmp_path} is there, is not empty and is no bundle" in done.stderr
    assert kept.exists()


def test_a_stranger_copies_it_into_a_folder_that_is_not_his(engine: Engine) -> None:
    engine.docker("run", "--rm", *NOTHING, BUNDLE, "--copy-to", "/tmp")  # noqa: S108


def test_it_needs_not_even_a_c_library(engine: Engine) -> None:
    # The image of the bundle has nothing else in it; the workload can only be the agent itself.
    command = ("run", "--", PROGRAM, "--version")
    assert engine.wait(engine.run(image=BUNDLE, command=command, UNIT_MODE="job")) == 0


@pytest.mark.parametrize("given", [{}, {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/nowhere"}])
def test_the_workload_has_its_own_library_path(engine: Engine, carried: str, given: dict[str, str]) -> None:
    name = engine.run(image=carried, command=("env",), UNIT_MODE="job", **given)
    assert engine.wait(name) == 0
    said = dict(line.split("=", 1) for line in engine.docker("logs", name).splitlines() if line[:1] != "{")
    assert {key: text for key, text in said.items() if key.startswith(("LD_", "_PYI", "_MEI"))} == given
    assert "RANK_ID" in said


def test_the_embedded_store_ends_with_its_agent(engine: Engine, carried: str) -> None:
    words = ("-c", f"{PROGRAM} local --size 1 -- sleep 1000 & exec sleep 1000")
    name = engine.run("--init", "--entrypoint", "sh", image=carried, command=words)
    engine.until(lambda: servers(engine, name) == 1)
    killed = "kill -9 $(awk '/PPid/ {print $2}' $(dirname $(grep -l valkey /proc/[0-9]*/comm))/status)"
    engine.docker("exec", name, "sh", "-c", killed)
    engine.until(lambda: servers(engine, name) == 0)


def servers(engine: Engine, name: str) -> int:
    """How many embedded stores run in the container."""
    return engine.docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/comm; :").split().count("valkey-server")


def test_every_module_is_in_it(engine: Engine) -> None:
    said = engine.docker("run", "--rm", BUNDLE, "-I", "-S", "-c", EVERYTHING)
    modules = [path for path in (ROOT / "unitagent").rglob("*.py") if not path.stem.startswith("__main")]
    assert len(said.split()) == len(modules) - 1, "all but the package itself"
