"""The folder that the agent is started in, or one on PYTHONPATH, has modules named as those it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operator.command import run
from tests.ports import free_port

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
    words = ["run", "--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo"]
    words += [
        "--mode",
        "job",
        "--http-address",
        f"127.0.0.1:{free_port()}",
        "--",
        "sh",
        "-c",
        "echo $PYTHONPATH",
    ]
    path = f"{folder}{os.pathsep}."
    done = run(*words, environ={"PYTHONPATH": path})
    assert "imported" not in done.stdout + done.stderr
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
