from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.frameworks_table.places import bare, line, place, plan
from unitagent.errors import ConfigurationError

ADDED = "--no_ssh --node_rank 1 --master_addr 10.0.0.1 --master_port 40000"


def added(rank: int) -> str:
    return ADDED.replace("rank 1", f"rank {rank}")


@pytest.mark.parametrize(
    ("rank", "size", "command", "expected"),
    [
        (0, 1, "deepspeed a.py", "deepspeed a.py"),
        (0, 2, "deepspeed -H h a.py", f"deepspeed {added(0)} -H h a.py"),
        (0, 4, "deepspeed -H h a.py", f"deepspeed {added(0)} -H h a.py"),
        (3, 4, "deepspeed -H h a.py", f"deepspeed {added(3)} -H h a.py"),
        (1, 2, "deepspeed -H h --num_gpus 8 a.py", f"deepspeed {ADDED} -H h --num_gpus 8 a.py"),
        (1, 2, "deepspeed --no_ssh --hostfile=h a.py", f"deepspeed {ADDED[9:]} --no_ssh --hostfile=h a.py"),
        (1, 2, "deepspeed -H h a.py --node_rank 7", f"deepspeed {ADDED} -H h a.py --node_rank 7"),
        (1, 2, "python -m deepspeed -H h --module m", f"python -m deepspeed {ADDED} -H h --module m"),
        (1, 2, "bash train.sh", "bash train.sh"),
    ],
)
def test_place(rank: int, size: int, command: str, expected: str) -> None:
    assert bare("deepspeed", command, place(rank, size)) == expected


@pytest.mark.parametrize("flags", ["--node_rank 0", "--num_nodes 3"])
def test_contradictions(flags: str) -> None:
    with pytest.raises(ConfigurationError, match="--n"):
        line("deepspeed", f"deepspeed {flags} a.py", place(1))


def test_without_a_hostfile_one_is_written(tmp_path: Path) -> None:
    made = plan("deepspeed", "deepspeed a.py", place(1), TMPDIR=str(tmp_path))
    hosts = tmp_path / "unitagent-u-1.hosts"
    assert made.argv[-11:] == ("deepspeed", *ADDED.split(), "--hostfile", str(hosts), "a.py")
    launcher = tmp_path / "deepspeed"
    launcher.write_text('#!/bin/sh\necho "$@"\n')
    launcher.chmod(0o755)
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: x'\necho 'GPU 1: y'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}:{Path(shutil.which('grep') or '').parent}"
    ran = subprocess.run(
        made.argv, env={"PATH": path}, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.split() == [*ADDED.split(), "--hostfile", str(hosts), "a.py"]
    assert hosts.read_text() == "10.0.0.1 slots=2\n10.0.0.2 slots=2\n"
