"""One container with an agent as its PID 1: namespaces of its own for pids, mounts, host name and network."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.network.namespaces import Namespace
from tests.waiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
_PROBE_PORT = 9470
_PREPARE = 'hostname "$1" && mount -t tmpfs none /dev/shm && shift && exec "$@"'
_LEASH = ["setpriv", "--pdeathsig", "KILL", "--"]
_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--uts", "--"]
_CONTAINER = [*_LEASH, *_UNSHARE, "sh", "-c", _PREPARE, "sh"]


class Container:
    """A running (or ended) container; its end takes every process in it along.

    Attributes:
        started, ended: monotonic seconds; ``ended`` is None while nobody noticed an end.

    """

    def __init__(
        self, name: str, namespace: Namespace, folder: Path, words: list[str], env: Mapping[str, str]
    ) -> None:
        self.name = name
        self._namespace = namespace
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        self.started = time.monotonic()
        self.ended: float | None = None
        with self.log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*namespace.enter(), *_CONTAINER, name, *words],
                env=dict(env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The agent's pid as seen from here."""
        children = Path(f"/proc/{self._popen.pid}/task/{self._popen.pid}/children")
        found = until(lambda: _read(children).split() or not self.running, f"{self.name} has a process")
        assert isinstance(found, list), f"{self.name} has ended"
        return int(found[0])

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill PID 1, and so the container, at once."""
        self.signal(signal.SIGKILL)

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def code(self, deadline: float = DEADLINE) -> int:
        """Wait for its end and return its exit code, as a shell would tell it."""
        try:
            code = self._popen.wait(deadline)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name} did not end within {deadline:g} s:\n{self.tail()}") from error
        return code if code >= 0 else 128 - code

    def get(self, path: str, timeout: float = 2.0) -> tuple[int, str]:
        """Ask the probe address over loopback: code and body; code 0 when nobody answers."""
        client = http.client.HTTPConnection("127.0.0.1", _PROBE_PORT, timeout=timeout)
        try:
            client.sock = self._namespace.connection()
            client.sock.settimeout(timeout)
            client.sock.connect(("127.0.0.1", _PROBE_PORT))
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            client.close()

    def status(self, timeout: float = 2.0) -> dict[str, Any]:
        """The agent's ``/status``; empty when it does not answer."""
        code, body = self.get("/status", timeout)
        found: dict[str, Any] = json.loads(body) if code == 200 else {}
        return found

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def said(self, *words: str) -> bool:
        """Whether some line of its log has all these words."""
        return any(all(word in line for word in words) for line in _read(self.log).splitlines())

    def tail(self, lines: int = 15) -> str:
        return "\n".join(_read(self.log).splitlines()[-lines:])

    def close(self) -> None:
        if self.running:
            with contextlib.suppress(AssertionError):
                self.kill()
            self._popen.kill()
            self._popen.wait()


def agent_command(*workload: str) -> list[str]:
    """The command line of an agent with this workload, run by the interpreter of these tests."""
    return [sys.executable, "-m", "unitagent", "run", "--", *workload]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
