"""Evidence in a container: stacks come from the image and from the bundle, and a missing right is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docker.engine import BASE, BUNDLE, Engine, fresh
from unitagent.evidence import stacks

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

BUNDLED = "/opt/unitagent/unitagent"
PROGRAM = """\
import os
if not os.path.exists("/tmp/model"):
    os.mkfifo("/tmp/model")
def load_adapter():
    os.makedirs("/tmp/loads", exist_ok=True)
    open("/tmp/model")
load_adapter()
"""
HANGS = ("python3", "-c", PROGRAM)
# A process that the kernel lets nobody look into, as engines with secrets in memory make themselves.
CLOSED = ("python3", "-c", "import ctypes; ctypes.CDLL(None).prctl(4, 0)\n" + PROGRAM)


@pytest.fixture
def py_spy() -> tuple[str, ...]:
    """Options that put the py-spy of these tests, a static program, on the container's PATH."""
    tool = stacks.find_tool()
    assert tool is not None
    return "--volume", f"{Path(tool).resolve()}:/usr/local/bin/py-spy:ro"


def restart_with_evidence(engine: Engine, name: str, program: str = "unitagent") -> str:
    """Order a restart of a Unit that hangs; return what ``unitagent evidence`` says then."""
    engine.until(lambda: engine.ready(name, program))
    engine.until(lambda: "loads" in engine.docker("exec", name, "ls", "/tmp"))  # noqa: S108
    engine.docker("exec", name, program, "restart", "--reason", "it hangs")
    engine.until(lambda: " files, " in engine.docker("exec", name, program, "evidence", code=None))
    return engine.docker("exec", name, program, "evidence")


def test_stacks_come_in_a_container_as_it_is(engine: Engine, py_spy: tuple[str, ...]) -> None:
    name = engine.run(*py_spy, command=HANGS)
    told = restart_with_evidence(engine, name)
    assert "is in load_adapter (<string>:6), open of /tmp/model" in told
    assert "not collected" not in told
    engine.docker("exec", name, "unitagent", "evidence", "--fetch", "/tmp/fetched")  # noqa: S108
    found = engine.docker("exec", name, "sh", "-c", "cat /tmp/fetched/generation-1/rank-0/stacks.txt")
    assert "load_adapter (<string>:6)" in found


def test_stacks_come_from_the_bundle(engine: Engine, py_spy: tuple[str, ...]) -> None:
    volume = fresh()
    engine.docker("run", "--rm", "--volume", f"{volume}:/opt/unitagent", BUNDLE, "--version")
    engine.undoing.append(("volume", "rm", volume))
    places = ("--volume", f"{volume}:/opt/unitagent:ro", "--entrypoint", BUNDLED)
    name = engine.run(*py_spy, *places, image=BASE, command=("run", "--", *HANGS))
    told = restart_with_evidence(engine, name, BUNDLED)
    assert "is in load_adapter (<string>:6), open of /tmp/model" in told
    assert "not collected" not in told


def test_without_py_spy_it_is_said_what_to_install(engine: Engine) -> None:
    told = restart_with_evidence(engine, engine.run(command=HANGS))
    assert "not collected: py-spy is not on PATH (pip install py-spy" in told
    assert "is waiting in the kernel's " in told or "open of /tmp/model" in told


def test_a_container_that_may_not_read_its_processes_is_told_a_remedy_that_helps(
    engine: Engine, py_spy: tuple[str, ...]
) -> None:
    told = restart_with_evidence(engine, engine.run(*py_spy, command=CLOSED))
    (line,) = [line for line in told.splitlines() if "not collected: " in line]
    assert "py-spy may not read process " in line
    assert "root with the capability SYS_PTRACE (docker run --user 0 --cap-add SYS_PTRACE; in Kub" in line
    assert "load_adapter" not in told
    remedy = ("--user", "0", "--cap-add", "SYS_PTRACE")
    assert "is in load_adapter" in restart_with_evidence(engine, engine.run(*py_spy, *remedy, command=CLOSED))
