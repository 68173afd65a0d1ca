"""The watchdog: kills the workload of an agent that hangs, or that was killed outside a container.

It is a separate process (see :mod:`watchdog_client`). Through one pipe the agent tells it how long the
workload may run without another message, and which processes to spare; through another it reports that it has
killed. When the time is over, or the pipe closes because the agent has died, it kills the workload, so that
nothing of it is left when another instance takes its rank, a lease and 2 s after the last heartbeat.

The invariants. An agent that exits normally has disarmed it, so it kills nothing. Time counts only as this
process sees it pass, at most half a second between two looks: a paused container or machine, which freezes
both processes, is not silence. It kills only descendants of its agent or, once the agent is gone, processes
with its marker (see :mod:`leftovers`), their process groups and their descendants.

It runs in a bare interpreter and imports next to nothing, not even the rest of this package: 3 MB. That is
why it does not use a pidfd, which would protect the next owner of a pid, and checks the process just before
the signal.
"""

# ruff: noqa: PTH123, PTH208
# (pathlib is half a megabyte)

from __future__ import annotations

import os
import select
import sys
import time

DISARM = "disarm"
KILLED = b"killed\n"
MARK = b"UNIT_AGENT="
_KILL = 9
_NEVER = float("inf")
_LOOK = 0.5  # seconds that one look counts for at most
_ROUND, _ROUNDS = 0.05, 100  # seconds between rounds of SIGKILL, and how many there are
_WORDS = 4096  # bytes


class ProcessStat:
    """One line of ``/proc/PID/stat`` (proc(5))."""

    def __init__(self, pid: int, line: bytes) -> None:
        fields = line.rpartition(b") ")[2].split()
        self.pid = pid
        self.alive = fields[0] not in b"ZX"
        self.parent, self.group, self.ticks = int(fields[1]), int(fields[2]), int(fields[19])


def read_proc_file(pid: int, what: str = "stat") -> bytes:
    """Return a file of a process; empty if it is gone or unreadable."""
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def find_process(pid: int) -> ProcessStat | None:
    """Return the process with this pid."""
    line = read_proc_file(pid)
    return ProcessStat(pid, line) if line else None


def list_processes() -> list[ProcessStat]:
    """Return all visible processes."""
    processes = (find_process(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return [process for process in processes if process is not None]


def select_descendants(processes: list[ProcessStat], roots: set[int], spared: set[int]) -> list[ProcessStat]:
    """Return the descendants of ``roots``, except spared ones and theirs."""
    descendants: list[ProcessStat] = []
    while roots:
        spared = spared | roots
        born = [one for one in processes if one.parent in roots and one.pid not in spared]
        roots = {one.pid for one in born}
        descendants += born
    return descendants


def select_marked(processes: list[ProcessStat], agent: ProcessStat) -> list[ProcessStat]:
    """Return processes with the marker of this agent, their groups and their descendants."""
    ending = b":%d:%d" % (agent.pid, agent.ticks)
    own = {one.pid for one in processes if _read_mark(one.pid).endswith(ending)}
    groups = {one.group for one in processes if one.pid in own} - {agent.group, 0}
    kin = [one for one in processes if one.pid in own or one.group in groups]
    return [*kin, *select_descendants(processes, {one.pid for one in kin}, set())]


def _read_mark(pid: int) -> bytes:
    return next((word for word in read_proc_file(pid, "environ").split(b"\0") if word.startswith(MARK)), b"")


def kill_process(process: ProcessStat) -> None:
    """Kill exactly this process."""
    now = find_process(process.pid)
    if now is not None and now.ticks == process.ticks:
        try:
            os.kill(process.pid, _KILL)
        except OSError:
            return


def report_kill() -> None:
    """Report that we kill the workload: an agent that wakes up would otherwise look for another cause."""
    try:
        os.write(1, KILLED)
    except OSError:  # it is gone
        return


class Watchdog:
    """Watches one agent, whose messages arrive on descriptor 0."""

    def __init__(self, agent: ProcessStat) -> None:
        self._agent = agent
        self._armed = False
        self._left = _NEVER
        self._spared: set[int] = set()
        self._unread = b""

    def watch_agent(self) -> None:
        """Watch until the agent has ended, and kill its workload if it has to be."""
        listening = True
        while listening:
            seconds = min(self._left, _LOOK)
            if self._has_message(None if self._left == _NEVER else seconds):
                listening = self._read_message()
                continue
            self._left -= seconds
            if self._left <= 0:
                self._kill_workload(hanging=True)
                self._left = _NEVER
        if self._armed:
            self._await_agent_end()
            self._kill_workload(hanging=False)

    def _has_message(self, within: float | None) -> bool:
        return bool(select.select((0,), (), (), within)[0])

    def _read_message(self) -> bool:
        """Read messages and obey the last one; return whether more may come."""
        data = os.read(0, _WORDS)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            word, *pids = lines[-1].decode().split()
            self._armed = word != DISARM
            self._left = float(word) if self._armed else _NEVER
            self._spared = set(map(int, pids))
        return bool(data)

    def _await_agent_end(self) -> None:
        """Wait for the end of the agent: its pipe closes before its children get another parent."""
        for _ in range(_ROUNDS):
            now = find_process(self._agent.pid)
            if now is None or now.ticks != self._agent.ticks or not now.alive:
                return
            time.sleep(_ROUND)

    def _kill_workload(self, *, hanging: bool) -> None:
        """SIGKILL until no process is left, or until a hanging agent sends a message."""
        for round_ in range(_ROUNDS):
            if hanging and self._has_message(0):
                return
            processes = [process for process in self._find_workload(hanging=hanging) if process.alive]
            if not processes:
                return
            if hanging and round_ == 0:
                report_kill()
            for process in processes:
                kill_process(process)
            time.sleep(_ROUND)

    def _find_workload(self, *, hanging: bool) -> list[ProcessStat]:
        if not hanging:
            return select_marked(list_processes(), self._agent)
        return select_descendants(list_processes(), {self._agent.pid}, {*self._spared, os.getpid()})


def hide_process() -> None:
    """Keep processes of the same user, such as the workload, from using our pipe.

    This is ``process_setup.hide_process``, which a bare interpreter cannot import.
    """
    import ctypes  # noqa: PLC0415  # 1 MB, which importing this module must not cost

    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def main() -> None:
    """Keep only the pipes of the agent: no terminal, no working directory, no other descriptors."""
    hide_process()
    os.setsid()
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:  # noqa: PLR2004
            try:
                os.close(int(name))
            except OSError:  # the descriptor of this listing
                continue
    agent = find_process(int(sys.argv[-1]))
    if agent is not None and agent.pid == os.getppid():
        Watchdog(agent).watch_agent()


if __name__ == "__main__":
    main()
