"""Another user of the machine has been in the folder for temporary files before us."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.frameworks_table.places import place
from unitagent.frameworks.deepspeed import DeepSpeed


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "file", "nothing"])
def test_deepspeed_s_hostfile_is_written_to_no_file_of_somebody_else(tmp_path: Path, kind: str) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    other.write_text("precious")
    (tmp_path / "deepspeed").write_text("#!/bin/sh\n")
    (tmp_path / "deepspeed").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(shared)}
    plan = DeepSpeed().plan(place(), ("deepspeed", "train.py"), env)
    hosts = Path(plan.argv[plan.argv.index("--hostfile") + 1])
    assert hosts.parent == shared
    match kind:
        case "link":
            hosts.symlink_to(other)
        case "dangling link":
            hosts.symlink_to(tmp_path / "new")
        case "hard link":
            hosts.hardlink_to(other)
        case "file":
            hosts.write_text("evil slots=8\n")
    subprocess.run(plan.argv, env=env, check=True)
    assert other.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert not hosts.is_symlink()
    assert [line.partition(" ")[2] for line in hosts.read_text().splitlines()] == ["slots=1"] * 2
