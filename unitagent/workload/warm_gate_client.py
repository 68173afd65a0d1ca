"""The agent's side of a gate (:mod:`warm_gate`): it builds one, and has one process forked and waiting.

The invariants. The process that waits is a child of the agent and watched before it gets anything to run, so
a start takes the time of one message. Gate and waiting process are services: they are never stopped with the
workload, and count as none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitagent.system import procfs, working_directory
from unitagent.system.memory_files import open_memory_file
from unitagent.workload import warm_gate, warm_process, warm_record
from unitagent.workload.environment import MARKER, OF_GENERATION
from unitagent.workload.python_command import PythonCommand

if TYPE_CHECKING:
    from unitagent.core.exits import Exit
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals

_log = logging.getLogger(__name__)

_FORK_SECONDS = 2.0
_IMPORT_SECONDS = 600.0
_ROOM = 4096  # bytes by which the command line of a later generation may be longer
# in the order in which one imports the others
_CODE = (warm_process.__name__, warm_record.__name__, warm_gate.__name__)
# The gate's code comes through a descriptor: a bundle has no file of it, and the engine's Python no package.
_BOOT = """
import json, sys, types
for name, code in json.load(open(int(sys.argv[3]))):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(code, name, "exec"), module.__dict__)
module.main()()
"""


@dataclass(frozen=True, slots=True)
class GatePlan:
    """What a gate is built for.

    Attributes:
        command: whose interpreter, options and program it has.
        modules: what it imports.
        environment: what its generations are given, without what is new in each.
        learned: what multiprocessing's children were given; empty if none were seen.
        late: what it imports besides, because earlier warm starts have imported it themselves.

    """

    command: PythonCommand
    modules: tuple[str, ...]
    environment: Mapping[str, str]
    learned: Mapping[str, str]
    late: tuple[str, ...] = ()

    def explain_mismatch(self, command: PythonCommand, env: Mapping[str, str]) -> str:
        """Return why this start cannot come from the gate; empty if it can."""
        mine, other = self.command, command
        for what in ("interpreter", "kind", "target", "name"):
            if getattr(mine, what) != getattr(other, what):
                return f"the {what} of its command is another"
        if mine.words[: mine.options] != other.words[: other.options]:
            return "the options of its interpreter are others"
        lasting = drop_generation(env)
        changed = {name for name, _ in self.environment.items() ^ lasting.items()}
        return f"the variable {min(changed)} has changed" if changed else ""

    def covers(self, other: GatePlan) -> bool:
        """Whether a gate of this plan is as good as one of another; any learned environment is."""
        same = self.modules == other.modules
        same = same and bool(self.learned) >= bool(other.learned) and self.late == other.late
        return same and not self.explain_mismatch(other.command, other.environment)

    def choose_environment(self) -> dict[str, str]:
        """Return the gate's own environment: modules read it when they are imported, so it is that of the
        processes that do the work.
        """
        chosen = drop_generation(self.learned or self.environment)
        mark = self.environment.get(MARKER)
        return ({MARKER: mark} if mark else {}) | chosen


def drop_generation(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that all generations have the same values of."""
    return {name: value for name, value in env.items() if name not in OF_GENERATION}


class Gate:
    """One gate, and the process that it has forked for the next start.

    Attributes:
        plan: what it was built for.
        pid: of the gate; 0 once it has ended.
        waiting: pid of the process that waits for a job; None if there is none.
        import_seconds: CPU time of the gate's imports.
        fork_seconds: from the request for the process that waits until it did.

    """

    def __init__(
        self, plan: GatePlan, reaper: Reaper, inherited: InheritedSignals, on_end: Callable[[str], None]
    ) -> None:
        """Prepare; ``on_end`` is called with a reason once it can start nothing, unless it was closed."""
        self.plan = plan
        self.pid = 0
        self.waiting: int | None = None
        self.import_seconds = self.fork_seconds = 0.0
        self._asked = 0.0
        self._record: int | None = None
        self._imports: dict[str, list[str]] = {}
        self._environment: dict[str, str] = {}
        self._reaper, self._inherited, self._on_end = reaper, inherited, on_end
        self._link: socket.socket | None = None
        self._pipes: list[int] = []
        self._conversation: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = "its gate is still importing"

    @working_directory.in_start_directory()
    def build(self, captured: Collection[int]) -> None:
        """Start the gate; it reports when it has imported everything.

        Args:
            captured: the descriptors of the workload that are pipes, so the gate's are pipes.

        Raises:
            OSError, ValueError: it cannot be started.

        """
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command, folder = self.plan.command, os.getcwd()  # noqa: PTH109
        plan = {
            "agent": os.getpid(),
            "argv": command.argv,
            "path": command.find_first_path(folder),
            "modules": self.plan.modules,
            "late": self.plan.late,
        }
        self._record = warm_record.create_memory()
        texts = json.dumps(plan).encode(), _load_code()
        handles = [its.detach(), *(open_memory_file("unit-gate", text) for text in texts)]
        handles.append(os.dup(self._record))
        pipes = {number: os.pipe() for number in captured}
        self._pipes = [read_end for read_end, _ in pipes.values()]
        padding = "0" * (sum(len(os.fsencode(word)) + 1 for word in command.words) + _ROOM)
        words = [*command.words[: command.options], "-c", _BOOT, *map(str, handles), padding]
        try:
            for handle in handles:
                os.set_inheritable(handle, True)
            self.pid = os.posix_spawn(
                command.interpreter,
                words,
                self.plan.choose_environment(),
                file_actions=[(os.POSIX_SPAWN_DUP2, end, number) for number, (_, end) in pipes.items()],
                setpgroup=0,
                setsigmask=self._inherited.mask,
                setsigdef=self._inherited.defaults,
            )
        except (OSError, ValueError):
            mine.close()
            raise
        finally:
            for handle in (*handles, *(end for _, end in pipes.values())):
                os.close(handle)
        self._reaper.watch_child(self.pid, self._on_exit, service=True, forks=True)
        self._link = mine
        mine.setblocking(False)
        asyncio.get_running_loop().add_reader(mine.fileno(), self._read_message)
        self._limit_wait(_IMPORT_SECONDS, "its gate does not finish importing")

    def read_record(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Return what the processes of each role have imported themselves, and the environment of the first
        one that was spawned.
        """
        if self._record is not None:
            self._imports = warm_record.read_imports(self._record)
            self._environment = warm_record.read_environment(self._record)
        return self._imports, self._environment

    def explain_absence(self) -> str:
        """Return why no process waits for a job; empty if one does."""
        seen = procfs.read_process(self.waiting) if self.waiting is not None else None
        if seen is None or not seen.alive:
            return self._why or "the process that its gate forked has ended"
        return "the process that its gate forked is stopped" if seen.state in "Tt" else ""

    def start_process(self, job: warm_process.Job, fds: list[int], seconds: float) -> int:
        """Give the waiting process its job and return its pid; it is no service any more.

        The loop waits for its answer, at most ``seconds``.

        Raises:
            OSError: it refuses, or does not answer; it is killed.

        """
        pid, conversation = self.waiting, self._conversation
        self.waiting = self._conversation = None
        if pid is None or conversation is None:
            raise OSError("no process waits")
        try:
            with conversation:
                warm_gate.hand_over(conversation, job, fds, seconds)
        except OSError:
            _kill_child(pid)  # a service until it is reaped
            raise
        self._reaper.services.discard(pid)
        self._request_process()
        return pid

    def close(self) -> None:
        """End the gate, and the process that waits."""
        self._release()
        for pid in (self.pid, self.waiting):
            if pid:
                _kill_child(pid)
        self.pid, self.waiting = 0, None

    def _read_message(self) -> None:
        try:
            data = self._link.recv(4096) if self._link is not None else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._release()  # its exit says how it ended
        elif data.isdigit():
            self._take_process(int(data))
        elif data.startswith(b"{"):
            self._take_report(json.loads(data))
        else:
            self._fail(f"its gate cannot fork: {data.decode(errors='replace')}")

    def _take_report(self, report: Mapping[str, Any]) -> None:
        self._close_pipes()  # until now, what Python prints at its start must not be an error
        if "refused" in report:
            self._fail(str(report["refused"]))
            return
        self.import_seconds = float(report["cpu"])
        late = f", {len(self.plan.late)} of them as earlier starts did" if self.plan.late else ""
        absent = f", without {report['absent']}" if report["absent"] else ""
        what = f"{report['modules']} modules were imported in {report['ready']:.1f} s{late}{absent}"
        _log.info("the next start is warm: %s", what)
        self._request_process()

    def _request_process(self) -> None:
        """Let the gate fork the process for the next start."""
        if self._link is None:
            return
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._conversation, self._why = mine, "its gate has not forked yet"
        with its:
            try:
                socket.send_fds(self._link, [warm_gate.FORK], [its.fileno()])
            except OSError as error:
                self._fail(f"its gate does not answer: {error}")
                return
        self._asked = time.monotonic()
        self._limit_wait(_FORK_SECONDS, "its gate does not fork")

    def _take_process(self, pid: int) -> None:
        """Watch a process that the gate has forked; it runs nothing yet."""
        self._stop_timer()
        seen = procfs.read_process(pid)
        if seen is None or seen.parent != os.getpid():
            self._fail("the process that its gate forked has ended")
            return
        self.waiting, self._why = pid, ""
        self.fork_seconds = time.monotonic() - self._asked
        self._reaper.watch_child(pid, self._on_waiting_exit, service=True)

    def _on_waiting_exit(self, ended: Exit) -> None:
        if self.waiting is not None:
            self.waiting = None
            if self._link is None and self.pid:
                return  # its gate has gone, and says with its own exit how that ended
            self._fail(f"the process that its gate forked {ended.describe_exit()}")

    def _on_exit(self, ended: Exit) -> None:
        if self.pid:
            self.pid = 0
            self._fail(f"its gate {ended.describe_exit()}")

    def _fail(self, why: str) -> None:
        self.close()
        self._on_end(why)

    def _limit_wait(self, seconds: float, why: str) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fail, why)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_pipes(self) -> None:
        while self._pipes:
            os.close(self._pipes.pop())

    def _release(self) -> None:
        self._stop_timer()
        if self._record is not None:
            self.read_record()
            os.close(self._record)
            self._record = None
        self._close_pipes()
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._link.close()
            self._link = None
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None


def _load_code() -> bytes:
    """Return names and sources of the gate's modules, as JSON."""
    found = []
    for name in _CODE:
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        found.append((name, loader.get_source(name)))
    return json.dumps(found).encode()


def _kill_child(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
