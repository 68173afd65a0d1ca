"""A redis-server that comes back as it was at an earlier moment: killed and started from an old copy,
replaced by a server that has an old copy, or set back in place while its clients stay connected.

Copies are written at random moments, whatever state the store is in then, and are kept until the end.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.network.namespaces import Namespace
from tests.network.redis_server import PORT, RedisServer

PAUSES = (0.5, 4.0)  # seconds between two copies
AGES = (0, 1, 1, 2, 3, 5)  # rebuilt containers since the copy that is taken
_BESIDE = PORT + 1  # where a server that takes over is made ready
_ALLOWED = ("enable-debug-command", "enable-protected-configs")  # for the lab, at the unix socket


@dataclass(frozen=True, slots=True)
class Copy:
    """What the store held at a moment, and how many containers had been rebuilt by then."""

    name: str
    made: float
    rebuilds: int


class RememberingServer(RedisServer):
    """One server with copies of its past."""

    def __init__(self, namespace: Namespace, folder: Path, chance: random.Random) -> None:
        super().__init__(namespace, folder)
        self.rebuilds = 0
        self.told = ""
        self._chance = chance
        self._copies: list[Copy] = []
        self._servers = 0
        self._turn = threading.RLock()
        self._over = threading.Event()
        self._copying = threading.Thread(target=self._copy_now_and_then, daemon=True)

    def start(self, *more: str) -> None:
        """Start it: empty, unless it is given a copy."""
        allowed = (word for name in _ALLOWED for word in (f"--{name}", "local"))
        super().start(*allowed, *more)

    def begin_to_copy(self) -> None:
        self._copying.start()

    def end_copying(self) -> None:
        self._over.set()
        if self._copying.is_alive():
            self._copying.join()

    def copy(self) -> None:
        """Keep what it holds now."""
        with self._turn:
            one = Copy(f"copy-{len(self._copies)}.rdb", time.monotonic(), self.rebuilds)
            client = self.client
            client.config_set("dbfilename", one.name)
            client.save()
            self._copies.append(one)

    def come_back(self) -> None:
        """Start it with an old copy; it was stopped."""
        with self._turn:
            self.start("--dbfilename", self._earlier())

    def fail_over(self) -> None:
        """A server with an old copy takes its place: connections break, and nobody is refused for long."""
        with self._turn:
            former, self._popen = self._popen, None
            self._servers += 1
            self.start("--dbfilename", self._earlier(), "--port", str(_BESIDE))
            assert former is not None
            former.kill()
            former.wait()
            self.client.config_set("port", PORT)

    def set_back(self) -> None:
        """All that it holds is replaced by an old copy at once; connections and scripts stay."""
        with self._turn:
            client = self.client
            client.config_set("dbfilename", self._earlier())
            client.execute_command("DEBUG", "RELOAD", "NOSAVE")  # type: ignore[no-untyped-call]

    def _earlier(self) -> str:
        """The name of a copy, drawn by how many containers were rebuilt since."""
        known = max(0, self.rebuilds - self._chance.choice(AGES))
        old = [one for one in self._copies if one.rebuilds <= known] or self._copies[:1]
        newest = max(one.rebuilds for one in old)
        one = self._chance.choice([one for one in old if one.rebuilds == newest])
        age = time.monotonic() - one.made
        self.told = f"{one.name}, {age:.1f} s and {self.rebuilds - one.rebuilds} rebuilds old"
        return one.name

    def _copy_now_and_then(self) -> None:
        """A store that is stopped, frozen or full at that moment is not copied."""
        while not self._over.wait(random.uniform(*PAUSES)):
            try:
                self.copy()
            except redis.RedisError:
                continue

    @property
    def _socket(self) -> Path:
        return self._folder / f"redis-{self._servers}.sock"
