"""Where the real frameworks are: virtual environments of their own, apart from the agent's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
_ROOT = Path(__file__).parents[2]
TORCH = _ROOT / ".venv-frameworks" / "bin"
RAY = _ROOT / ".venv-ray" / "bin"
VLLM = _ROOT / ".venv-vllm" / "bin"


def path(environment: Path) -> str:
    """``PATH`` of an image with this environment."""
    return f"{environment}:{os.environ['PATH']}"


def trouble(environment: Path, package: str, *, complete: bool = True) -> str:
    """Why this package cannot be used; empty if it can. An installation may be there and broken.

    One that is not ``complete``, without its dependencies, has only to be there.
    """
    python = environment / "python"
    if not python.exists():
        return f"{python} is not there"
    look = f"import {package}" if complete else f"import importlib.util as i; assert i.find_spec({package!r})"
    done = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{python}: import {package}: {done.stderr.strip()[-300:]}"


def published(environment: Path, framework: str, *words: str, given: Sequence[Sequence[str]] = ()) -> Any:
    """What a framework's own parser makes of command lines; see ``programs/published.py``."""
    done = subprocess.run(
        [environment / "python", PROGRAMS / "published.py", framework, *words],
        input=json.dumps(given), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
