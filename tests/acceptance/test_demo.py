"""The README's first command does what it says, with an exit code that means it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.local import clean

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demonstration_observes_everything() -> None:
    done = subprocess.run(
        ["bash", "scripts/demo.sh"],
        cwd=ROOT, env=clean(), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line.split()[0] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert steps == ["unitagent:", "start", "fault", "time", "stop", "Each"]
