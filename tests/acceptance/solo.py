"""A Unit of one instance, started as its user would, and all that anybody can see of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.local import MODULE, UNITAGENT, clean, command_line
from tests.ports import free_port
from tests.processes import kill_family
from tests.waiting import DEADLINE, until
from unitagent.system import procfs

UNIT = f"solo-{os.getpid()}"  # an agent ends what a dead one of its Unit left: not that of another run


class Solo:
    """``unitagent run`` of size 1; its workload notes its environment, and runs $DAEMON."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        command: Sequence[str] = (),
        **variables: str,
    ) -> None:
        self.folder, self.output, self.port = folder, folder / "output", free_port()
        words = ["--size", "1", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo", "--guard"]
        words += ["--http-address", f"127.0.0.1:{self.port}", "--unit", UNIT, "--log-level", "debug"]
        note = f"env > {folder}/new && mv {folder}/new {folder}/env.$UNIT_GENERATION"
        script = f'{note}; eval "$DAEMON"; exec sleep 1000'
        self.env = clean(**variables)
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(
                [*prefix, python, *MODULE, "run", *words, *options, "--", *(command or ("sh", "-c", script))],
                env=self.env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def get(self, path: str) -> str:
        """What the probe address answers; empty when it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status") or "{}")
        return found

    def ready(self, above: int = 0) -> dict[str, Any]:
        """Wait until a generation above this one serves; its status then."""

        def look() -> dict[str, Any]:
            assert self.popen.poll() is None, self.output.read_text()
            seen = self.status()
            return seen if seen.get("ready") and seen["generation"] > above else {}

        return until(look, f"ready above generation {above}")

    def command_lines(self) -> str:
        """Of the agent and of all that it started."""
        pids = [
            self.popen.pid,
            *(one.pid for one in procfs.select_descendants(procfs.read_process_table(), self.popen.pid)),
        ]
        return "\n".join(map(command_line, pids))

    def run(self, *words: str) -> str:
        """Output of another command, with the same environment."""
        address = ["--http-address", f"127.0.0.1:{self.port}", "--unit", UNIT]
        done = subprocess.run(
            [*UNITAGENT, *words, *address], env=self.env, stdin=-3, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def close(self) -> None:
        kill_family(self.popen)
