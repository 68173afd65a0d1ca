"""Another user of the machine has been in the folder for temporary files before us."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.frameworks_table.places import place
from unitagent.frameworks.deepspeed import DeepSpeed


def start(folder: Path, shared: Path) -> tuple[tuple[str, ...], dict[str, str], Path]:
    """The command, its environment, and the place of the hostfile."""
    (folder / "deepspeed").write_text("#!/bin/sh\necho started\n")
    (folder / "deepspeed").chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": str(shared)}
    plan = DeepSpeed().plan(place(), ("deepspeed", "train.py"), env)
    hosts = Path(plan.argv[plan.argv.index("--hostfile") + 1])
    assert hosts.parent == shared
    return plan.argv, env, hosts


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "file", "pipe", "nothing"])
def test_deepspeed_s_hostfile_is_written_to_no_file_of_somebody_else(tmp_path: Path, kind: str) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    other.write_text("precious")
    argv, env, hosts = start(tmp_path, shared)
    match kind:
        case "link":
            hosts.symlink_to(other)
        case "dangling link":
            hosts.symlink_to(tmp_path / "new")
        case "hard link":
            hosts.hardlink_to(other)
        case "file":
            hosts.write_text("evil slots=8\n")
        case "pipe":
            os.mkfifo(hosts)
    subprocess.run(argv, env=env, check=True, timeout=60)
    assert other.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert not hosts.is_symlink()
    assert [line.partition(" ")[2] for line in hosts.read_text().splitlines()] == ["slots=1"] * 2


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder as /tmp is: who has a file in it keeps it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # others reach no folder of pytest's
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_where_it_cannot_be_replaced_nothing_starts(everybodys: Path, kind: str) -> None:
    """The other user is root here, and the workload is nobody's."""
    other = everybodys / "other"
    other.write_text("precious")
    other.chmod(0o666)
    argv, env, hosts = start(everybodys, everybodys)
    match kind:
        case "link":
            hosts.symlink_to(other)
        case "file":
            hosts.write_text("evil slots=8\n")
            hosts.chmod(0o666)
        case "pipe":
            os.mkfifo(hosts)
            hosts.chmod(0o666)
    there = sorted(everybodys.iterdir())
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with hosts.open("r+b", buffering=0) if kind == "pipe" else nullcontext():
        done = subprocess.run(
            [*nobody, *argv], env=env, check=False, timeout=60, capture_output=True, text=True
        )
    assert done.returncode != 0
    assert "started" not in done.stdout
    assert other.read_text() == "precious"
    assert sorted(everybodys.iterdir()) == there
