"""What the pages tell a reader to type is typed here, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.local import clean
from tests.ports import free_port
from tests.waiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
COMMANDS = str(Path(sys.executable).parent)


def block_with(page: str, words: str) -> list[str]:
    """The lines of the page's only block of shell that has these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [block[1] for block in re.finditer(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    (block,) = (block for block in blocks if words in block)
    return block.splitlines()


def test_the_readme_s_unit_forms_and_its_status_shows_it(tmp_path: Path) -> None:
    start, status = block_with("README.md", "unitagent local")
    env = clean(
        UNIT_ID=f"readme-{os.getpid()}",
        UNIT_HTTP_ADDRESS=f"127.0.0.1:{free_port()}",
        PATH=f"{COMMANDS}:{os.environ['PATH']}",
    )
    with (tmp_path / "output").open("wb") as output:
        unit = subprocess.Popen(
            ["bash", "-c", f"exec {start}"], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            until(lambda: ": ready for " in _run(status, env).stdout, "the Unit of the README is ready")
        finally:
            unit.send_signal(signal.SIGINT)
            unit.wait(DEADLINE)
    assert unit.returncode == 0
    text = (tmp_path / "output").read_text()
    assert re.findall(r"rank \d of 3, rank 0 is 127\.0\.0\.1$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "line", [line for line in block_with("CONTRIBUTING.md", "--story") if "--seed " in line]
)
def test_a_simulated_world_is_replayed_as_contributing_says(line: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def _run(line: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, check=False)
