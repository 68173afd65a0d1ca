"""The folder that the agent is started in, or one on PYTHONPATH, has modules named as those it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operator.command import run
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
NAMES = ("redis", "msgspec", "unitagent", "h11", "psutil", "argparse")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        tmp_path.joinpath(f"{name}.py").write_text(f"import os; os.write(2, b'imported {name}')\n")
    return tmp_path


def test_nothing_of_the_folder_is_imported(folder: Path) -> None:
    script = Path(sys.executable).parent / "unitagent"
    address = f"127.0.0.1:{free_port()}"
    words = [str(script), "local", "--size", "1", "--mode", "job", "--http-address", address, "--", "true"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert "imported" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_nothing_of_pythonpath_is_imported_and_the_workload_has_it(folder: Path) -> None:
    folder.joinpath("unitagent.py").unlink()  # as which module it starts is the caller's to say
    folder.joinpath("argparse.py").unlink()
    given = {"PYTHONPATH": f"{folder}{os.pathsep}."}
    done = run(*of_one("echo $PYTHONPATH"), environ=given)
    assert "imported" not in done.stdout + done.stderr
    assert (done.returncode, done.stdout) == (0, f"{given['PYTHONPATH']}\n")


def of_one(script: str) -> list[str]:
    words = ["run", "--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo"]
    address = f"127.0.0.1:{free_port()}"
    return [*words, "--mode", "job", "--http-address", address, "--", "sh", "-c", script]


@pytest.mark.parametrize("command", ["run", "local"])
def test_an_agent_that_pythonpath_brings_prefers_its_own_packages(tmp_path: Path, command: str) -> None:
    """Its folder and one of the user's stand there, the user's with a module of a name that we need."""
    for name in ("redis", "msgspec"):
        tmp_path.joinpath(f"{name}.py").write_text("raise RuntimeError('not for the agent')\n")
    words = of_one("true")
    if command == "local":
        words = ["local", "--size", "1", *words[words.index("--mode") :]]
    done = run(*words, environ={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"})
    assert done.returncode == 0, done.stderr


def test_what_instruments_the_users_python_does_not_instrument_the_agent(tmp_path: Path) -> None:
    """Tracers come as a sitecustomize on PYTHONPATH, which runs before anything of ours."""
    tmp_path.joinpath("sitecustomize.py").write_text("import sys; sys.modules['msgspec'] = None\n")
    script = f"{sys.executable} -c 'import sys; print(sys.modules[\"msgspec\"])'"
    done = run(*of_one(script), environ={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


@pytest.mark.parametrize("name", ["PYTHONINSPECT", "PYTHONVERBOSE"])
def test_a_variable_for_the_users_python_changes_nothing_of_the_agent(name: str) -> None:
    """Inspected, a Python ends with 0 whatever happened."""
    plain, done = (run("run", "--size", "none", environ=given) for given in ({}, {name: "1"}))
    assert done.returncode == plain.returncode == 2
    assert done.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    shown = run(*of_one(f"echo ${name}"), environ={name: "1"})
    assert (shown.returncode, shown.stdout) == (0, "1\n")
