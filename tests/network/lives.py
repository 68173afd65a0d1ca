"""When each process of a workload was born and when it died, as the kernel tells: its process events carry
the monotonic time of every fork, exec and exit. A process belongs to the generation that its environment
names when it is executed, or to its parent's; so daemons that left group and session are counted too. One
that starts warm was forked before its generation began, and is born when it takes its name.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

_CONNECTOR, _CN_PROC, _LISTEN = 11, 1, 1
_FORK, _EXEC, _COMM, _EXIT = 0x1, 0x2, 0x200, 0x80000000
_NETLINK_HEADER, _CN_HEADER = 16, 20
_BUFFER = 1 << 24


@dataclass(slots=True)
class Life:
    """One process; times are monotonic seconds.

    Attributes:
        main: it was started by the agent itself.
        kept: it belongs to a keeper.
        died: None while it lives.

    """

    pid: int
    host: str
    rank: int
    generation: int
    agent: str
    born: float
    main: bool
    kept: bool = False
    died: float | None = None

    def outlives(self, moment: float) -> bool:
        return self.died is None or self.died > moment


class Watcher:
    """Notes the lives of all workload processes of one lab until it is closed."""

    def __init__(self, lab: str) -> None:
        self._mark = f"LAB={lab}".encode()
        self._born: dict[int, float] = {}
        self._alive: dict[int, Life] = {}
        self._lives: list[Life] = []
        self._lock = threading.Lock()
        self._socket = _listen()
        self._closing = False
        self.broken = ""
        self._seen = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def lives(self) -> list[Life]:
        """All lives of workloads so far, once everything that happened before this call has been noted."""
        return [life for life in self._list_all() if not life.kept]

    def kept(self) -> list[Life]:
        """The same of keepers."""
        return [life for life in self._list_all() if life.kept]

    def _list_all(self) -> list[Life]:
        self._catch_up()
        assert not self.broken, self.broken
        with self._lock:
            return list(self._lives)

    def alive(self) -> list[Life]:
        return [life for life in self.lives() if life.died is None]

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._socket.close()

    def _catch_up(self) -> None:
        """A process of our own is born and dies: when its end was noted, so was all before it."""
        now = time.monotonic()
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        while self._seen < now and not self.broken:
            time.sleep(0.002)

    def _watch(self) -> None:
        while not self._closing:
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                continue
            except OSError as error:
                self.broken = f"process events were lost: {error}"
                return
            with self._lock:
                self._note(data)

    def _note(self, data: bytes) -> None:
        what, _, stamp = struct.unpack_from("=IIQ", data, _NETLINK_HEADER + _CN_HEADER)
        pids = struct.unpack_from("=4I", data.ljust(72, b"\0"), _NETLINK_HEADER + _CN_HEADER + 16)
        at = stamp / 1e9
        if what == _FORK and pids[2] == pids[3]:
            self._forked(pids[1], pids[2], at)
        elif what == _EXEC:
            self._executed(pids[1], at)
        elif what == _COMM:
            self._born.pop(pids[1], None)
            self._executed(pids[1], at)
        elif what == _EXIT and pids[0] == pids[1]:
            self._exited(pids[1], at)
        self._seen = at

    def _forked(self, parent: int, child: int, at: float) -> None:
        self._born[child] = at
        origin = self._alive.get(parent)
        if origin is not None:
            self._begin(replace(origin, pid=child, born=at, main=False, died=None))

    def _executed(self, pid: int, at: float) -> None:
        if pid in self._alive:
            return
        env = _environment(pid, self._mark)
        if "UNIT_GENERATION" not in env:
            return
        rank, generation = int(env["RANK_ID"]), int(env["UNIT_GENERATION"])
        born = self._born.get(pid, at)
        agent = env.get("UNIT_AGENT", "")
        kept = ".keeper:" in agent
        self._begin(Life(pid, env["LAB_HOST"], rank, generation, agent, born, main=True, kept=kept))

    def _begin(self, life: Life) -> None:
        self._alive[life.pid] = life
        self._lives.append(life)

    def _exited(self, pid: int, at: float) -> None:
        self._born.pop(pid, None)
        life = self._alive.pop(pid, None)
        if life is not None:
            life.died = at


def overlaps(lives: Iterable[Life], newer: Iterable[Life] | None = None) -> list[str]:
    """Say which processes were alive when a newer generation started, by default one of theirs; empty when
    none was.
    """
    lives = list(lives)
    starts: dict[int, Life] = {}
    for life in lives if newer is None else newer:
        first = starts.get(life.generation)
        if first is None or life.born < first.born:
            starts[life.generation] = life
    return [
        f"pid {old.pid} of generation {old.generation} on {old.host} was alive {_lasted(old, first):.3f} s "
        f"after generation {first.generation} started on {first.host}"
        for first in starts.values()
        for old in lives
        if old.generation < first.generation and old.outlives(first.born)
    ]


def _lasted(old: Life, first: Life) -> float:
    return (time.monotonic() if old.died is None else old.died) - first.born


def _environment(pid: int, mark: bytes) -> dict[str, str]:
    """The variables of a process; none without this one, for the kernel tells of all processes there are."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123  # a fifth of the time
            data = file.read()
    except OSError:
        return {}
    entries = data.split(b"\0") if mark in data else []
    if mark not in entries:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
    return {name: value for name, _, value in pairs}


def _listen() -> socket.socket:
    """Subscribe to the kernel's process events (linux/cn_proc.h); only root in the first namespace may."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR)
    events.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
    events.bind((0, _CN_PROC))
    operation = struct.pack("=IIIIHHI", _CN_PROC, 1, 0, 0, 4, 0, _LISTEN)
    events.send(struct.pack("=IHHII", _NETLINK_HEADER + len(operation), 3, 0, 0, 0) + operation)
    events.settimeout(0.2)
    return events
