"""The HAProxy configurations that the project ships, on loopback: nothing but addresses is changed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.traffic.units import Unit
from tests.waiting import until

DOCKER = Path(__file__).parents[2] / "docker"


class Balancer:
    """A running HAProxy on ``port``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._processes: list[subprocess.Popen[bytes]] = []

    def by_asking(self, units: Sequence[Unit], config: str) -> None:
        """Every instance is asked, as that file says how; nobody tells HAProxy anything."""
        text = (DOCKER / config).read_text()
        asked = ("port", "agent-port") if "agent-check" in text else ("port",)
        servers = [
            f"    server {unit.name}-{rank} {unit.ip(rank)}:{unit.port} "
            + " ".join(f"{word} {unit.probe_port}" for word in asked)
            for unit in units
            for rank in range(unit.size)
        ]
        text = re.sub(r"(?ms)^resolvers engine.*?^$", "", text)
        text, found = re.subn(r"(?m)^    server-template .*", "\n".join(servers), text)
        assert found == 1
        text = text.replace("port 9470 resolvers engine init-addr none", "")
        self._start(text, [])

    def by_endpoints(self, environ: Mapping[str, str]) -> None:
        """``unitagent endpoints`` writes the servers down, and has HAProxy read them anew."""
        servers, pid = self.folder / "servers.cfg", self.folder / "haproxy.pid"
        words = ["endpoints", "--service", "chat", "--format", "haproxy", "--watch", str(servers)]
        words += ["--on-change", f"kill -USR2 $(cat {pid})"]
        argv = [sys.executable, "-m", "unitagent", *words]
        self._run(argv, "endpoints", environ)
        until(servers.exists, "the file of endpoints is written")
        self._start(
            (DOCKER / "haproxy-endpoints.cfg").read_text(), ["-W", "-p", str(pid), "-f", str(servers)]
        )
        until(pid.exists, "HAProxy has written its pid")

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(10)

    @property
    def said(self) -> str:
        """What HAProxy and the agents said of who is up, and of requests that were not answered."""
        lines = (line for path in sorted(self.folder.glob("*.log")) for line in path.read_text().splitlines())
        return "\n".join(line for line in lines if "unitagent" in line or "Server " in line or " 50" in line)

    def _start(self, text: str, more: Sequence[str]) -> None:
        text, found = re.subn(r"bind :8000", f"bind 127.0.0.1:{self.port}", text)
        assert found == 1
        config = self.folder / "haproxy.cfg"
        config.write_text(text)
        self._run(["haproxy", "-W" if more else "-db", "-f", str(config), *more], "haproxy")

    def _run(self, argv: Sequence[str], name: str, environ: Mapping[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
