"""Commands as a person runs them: processes with an environment that holds nothing but what a test gives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

UNITAGENT = (sys.executable, "-m", "unitagent")


def run(
    *words: str, environ: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``unitagent WORDS``."""
    path = {"PATH": os.environ["PATH"]}
    given = {**path, **(environ or {})}
    return subprocess.run(
        [*UNITAGENT, *words], env=given, capture_output=True, text=True, timeout=timeout, check=False
    )
