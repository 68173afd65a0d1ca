"""Where the real frameworks are: virtual environments of their own, apart from the agent's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
_ROOT = Path(__file__).parents[2]
TORCH = _ROOT / ".venv-frameworks" / "bin"
RAY = _ROOT / ".venv-ray" / "bin"
VLLM = _ROOT / ".venv-vllm" / "bin"


def path(environment: Path) -> str:
    """``PATH`` of an image with this environment."""
    return f"{environment}:{os.environ['PATH']}"


def trouble(environment: Path, package: str) -> str:
    """Why this package cannot be used; empty if it can. An installation may be there and broken."""
    python = environment / "python"
    if not python.exists():
        return f"{python} is not there"
    done = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{python}: import {package}: {done.stderr.strip()[-300:]}"
