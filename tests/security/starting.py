"""Starting the programs of this folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"


@contextlib.contextmanager
def started(name: str, *words: object) -> Iterator[str]:
    """Run a program until it says its first line, and for as long as the block lasts."""
    command = [sys.executable, str(PROGRAMS / name), *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdout=-1, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
