"""A real redis-server in a namespace of its own; the lab talks to it through a unix socket, past all cuts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from tests.network.namespaces import Namespace
from tests.waiting import until

PORT = 6379


class RedisServer:
    """One server that can be stopped, killed, frozen and made to refuse."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._only: redis.Redis | None = None
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> redis.Redis:
        """A fresh client of the lab's own."""
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=5)

    def start(self, *more: str) -> None:
        """Start it, with more options if there are any."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program is not None, "these tests need a redis-server or valkey-server on PATH"
        options = {
            "port": PORT, "bind": "0.0.0.0", "protected-mode": "no", "save": "", "dir": self._folder,
            "unixsocket": self._socket, "logfile": self._folder / "redis.log", "daemonize": "no",
        }  # fmt: skip
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        leash = ["setpriv", "--pdeathsig", "KILL", "--"]
        self._popen = subprocess.Popen(
            [*self._namespace.enter(), *leash, program, *words, *more], start_new_session=True
        )
        until(self._answers, "redis answers")

    def stop(self) -> None:
        """Kill it; it keeps nothing."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def configure(self, name: str, value: Any) -> None:
        self.client.config_set(name, value)

    def crowd(self) -> None:
        """Be full of clients: the only place is the lab's own."""
        self._only = redis.Redis(unix_socket_path=str(self._socket), single_connection_client=True)
        self._only.config_set("maxclients", 1)
        self._only.client_kill_filter(_type="normal", skipme=True)
        self._only.client_kill_filter(_type="pubsub", skipme=True)

    def make_room(self) -> None:
        """Undo :meth:`crowd`."""
        assert self._only is not None
        self._only.config_set("maxclients", 1000)
        self._only.close()
        self._only = None

    def _signal(self, number: int) -> None:
        assert self._popen is not None
        os.kill(self._popen.pid, number)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    @property
    def _socket(self) -> Path:
        return self._folder / "redis.sock"
