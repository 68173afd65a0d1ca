"""Starts the workload from a process that has imported its engine (:mod:`warm_gate`), or says why not.

The invariant: never worse than cold. Without a gate, before it is ready, if the command or its environment is
another than the gate was built for, and if the waiting process refuses or does not answer, the start is cold,
at once. A warm workload that fails by itself before it is ready costs the next one its gate; after two in a
row there are no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitagent.errors import CommandError
from unitagent.system import procfs, redaction, working_directory
from unitagent.workload import warm_gate, warm_process
from unitagent.workload.environment import MARKER
from unitagent.workload.python_command import PythonCommand, UnresolvedError, resolve_python, resolve_warm
from unitagent.workload.warm_gate_client import Gate, GatePlan, drop_generation

if TYPE_CHECKING:
    from unitagent.workload.reaper import Reaper
    from unitagent.workload.signals import InheritedSignals

_log = logging.getLogger(__name__)

_FAILURES = 2  # in a row; then there are no more gates
_LOOK = 0.02  # seconds between two looks
_LONGEST = 500  # characters of a reason
_WHO = {"main": "the main process", "children": "those that it spawned"}
_SPAWNED = "--multiprocessing-fork"


@dataclass(frozen=True, slots=True)
class StartReport:
    """How the workload was started.

    Attributes:
        warm: from a process of the gate, else by an exec.
        why: it was cold; empty if it was not.
        fork_seconds: that the fork took, most of which came before the start, and the start; None if cold.
        saved_seconds: CPU time of the imports that the gate has done for it; None if cold.

    """

    warm: bool
    why: str = ""
    fork_seconds: float | None = None
    saved_seconds: float | None = None

    def describe(self) -> str:
        """Return ``cold: WHY``, or ``warm`` with its times."""
        if not self.warm:
            return f"cold: {self.why}"
        return f"warm (forked in {self.fork_seconds:.3f} s; {self.saved_seconds:.1f} s of imports saved)"


class WarmStarter:
    """The warm starts of one instance.

    Attributes:
        report: how the last start was made; None before the first.

    """

    def __init__(
        self,
        reaper: Reaper,
        inherited: InheritedSignals,
        *,
        captured: Collection[int] = (2,),
        answer_seconds: float = warm_gate.ANSWER_SECONDS,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            reaper: reaps gates and what they fork.
            inherited: signal state to start the workload with.
            captured: the descriptors of the workload that are pipes.
            answer_seconds: how long a start waits for a process that was forked for it.

        """
        self._answer_seconds = answer_seconds
        self.report: StartReport | None = None
        self._reaper, self._inherited, self._captured = reaper, inherited, tuple(captured)
        self._gate: Gate | None = None
        self._why = "its gate is built once the Unit is ready"
        self._failures = 0
        self._learned: dict[str, str] = {}
        self._late: dict[str, list[str]] = {}
        self._takes_late = True
        self._proven = True  # the last warm workload has been ready

    def prepare(self, argv: Sequence[str], env: Mapping[str, str], modules: Sequence[str]) -> None:
        """Build a gate for the next starts of this command, unless there is one or it cannot be had."""
        if self._failures >= _FAILURES:
            return
        self._read_record()
        try:
            plan = self._make_plan(argv, env, modules)
        except Exception as error:  # noqa: BLE001  # whatever it is, the next start is cold
            self._why = str(error)
            return
        if self._gate is not None:
            if self._gate.plan.covers(plan):
                return
            self._gate.close()
        self._build_gate(plan)

    def _build_gate(self, plan: GatePlan) -> None:
        self._gate = Gate(plan, self._reaper, self._inherited, self._lose_gate)
        try:
            self._gate.build(self._captured)
        except (OSError, CommandError, ValueError) as error:  # ValueError: a variable that no exec takes
            self._gate.close()
            self._lose_gate(f"its gate cannot be started: {error}")

    def start_process(
        self, argv: Sequence[str], env: Mapping[str, str], pipes: Mapping[int, int]
    ) -> int | None:
        """Start a command warm and return its pid; None if it has to be started cold.

        Args:
            argv: the command.
            env: its whole environment.
            pipes: what it gets for some of its descriptors, by their numbers; else our own.

        """
        try:
            pid = self._start_warm(argv, env, pipes)
        except Exception as error:  # noqa: BLE001  # whatever it is, a cold start is as good as ever
            self.report = StartReport(warm=False, why=_shorten_reason(str(error) or repr(error)))
            _log.info("the workload starts %s", self.report.describe())
            return None
        self._proven = False
        return pid

    def explain_next(self) -> str:
        """Return why the next start would be cold; empty if it would be warm."""
        return self._why if self._gate is None else self._gate.explain_absence()

    async def wait_until_settled(self, seconds: float) -> None:
        """Wait until a start would be warm, or there is no gate, at most this long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._gate is not None and self._gate.waiting is None:
            if asyncio.get_running_loop().time() >= deadline:
                return
            await asyncio.sleep(_LOOK)

    def observe_children(self, pids: Collection[int]) -> None:
        """Learn which environment the workload gives to multiprocessing's children: of the last one.

        Many overwrite theirs with a title later, so this is to be called while the workload starts.
        """
        for pid in sorted(pids):
            words, entries = _read_entries(pid, "cmdline"), _read_entries(pid, "environ")
            found = {name: value for name, _, value in (one.partition("=") for one in entries) if name}
            if _SPAWNED in words and MARKER in found:
                self._learned = found

    def count_late_imports(self) -> dict[str, int]:
        """Return how many modules the warm starts so far have imported themselves, by role."""
        return {role: len(names) for role, names in self._late.items()}

    def confirm_ready(self) -> None:
        """The workload is ready: what was started warm has proven itself."""
        if not self._proven:
            self._proven, self._failures = True, 0

    def note_failure(self) -> None:
        """The workload ended or failed by itself; if it was started warm and never ready, that may be why."""
        if not self._proven:
            self._proven = True
            self._drop_gate("a workload that was started warm failed before it was ready")

    def close(self) -> None:
        """End the gate."""
        if self._gate is not None:
            self._read_record()
            self._gate.close()
            self._gate = None

    def _read_record(self) -> None:
        """Take what the gate's processes tell of themselves; what each role tells first is good enough."""
        if self._gate is None:
            return
        late, environment = self._gate.read_record()
        if not self._learned and MARKER in environment:
            self._learned = environment
        for role, names in late.items():
            if names and not self._late.get(role):
                self._late[role] = names
                _log.info("the next gate has %d modules that %s still imported", len(names), _WHO[role])

    def _make_plan(self, argv: Sequence[str], env: Mapping[str, str], modules: Sequence[str]) -> GatePlan:
        if not self._reaper.adopts_orphans:
            raise UnresolvedError("the kernel does not hand orphans to this agent")
        with working_directory.in_start_directory():
            command = resolve_warm(argv, env, modules)
        late = dict.fromkeys(name for names in self._late.values() for name in names)
        return GatePlan(
            command,
            tuple(modules),
            drop_generation(env),
            drop_generation(self._learned),
            tuple(late) if self._takes_late else (),
        )

    def _start_warm(self, argv: Sequence[str], env: Mapping[str, str], pipes: Mapping[int, int]) -> int:
        gate = self._gate
        if gate is None:
            raise UnresolvedError(self._why)
        if why := gate.explain_absence():
            raise UnresolvedError(why)
        command = resolve_python(argv, env)
        if why := gate.plan.explain_mismatch(command, env):
            self._replace_gate(why)
            raise UnresolvedError(why)
        handles = {number: number for number in warm_process.list_descriptors() if _is_inherited(number)}
        handles |= pipes
        if len(handles) > warm_gate.MOST_DESCRIPTORS:
            raise UnresolvedError(f"it inherits {len(handles)} descriptors")
        began = time.monotonic()
        job = self._describe_job(command, env, gate.plan.learned, sorted(handles))
        forked, saved = gate.fork_seconds, gate.import_seconds
        try:
            fds = [handles[number] for number in sorted(handles)]
            pid = gate.start_process(job, fds, self._answer_seconds)
        except warm_gate.MismatchError as error:
            self._replace_gate(str(error))
            raise
        except OSError as error:
            self._drop_gate(str(error) or repr(error))
            raise
        took = round(forked + time.monotonic() - began, 3)
        self.report = StartReport(warm=True, fork_seconds=took, saved_seconds=saved)
        _log.info("the workload starts %s, as process %d", self.report.describe(), pid)
        return pid

    def _describe_job(
        self, command: PythonCommand, env: Mapping[str, str], learned: Mapping[str, str], numbers: list[int]
    ) -> warm_process.Job:
        """Describe a start. It has what it once gave to its children already: that is what was imported with,
        and they run the same code.
        """
        state = warm_process.describe_state()
        return {
            **state,
            "mask": sorted(map(int, self._inherited.mask)),
            "ignored": sorted(map(int, self._inherited.ignored)),
            "group": 0,
            "spawned": False,
            "program": (command.kind, command.target),
            "argv": command.argv,
            "words": command.words,
            "name": command.name,
            "path": command.find_first_path(str(state["cwd"])),
            "env": list({**env, **learned}.items()),
            "numbers": numbers,
        }

    def _lose_gate(self, why: str) -> None:
        """The gate has ended by itself."""
        self._read_record()
        gate = self._gate
        if gate is not None and gate.plan.late and not gate.import_seconds:
            _log.warning("warm start: the next gate is built without what was imported late: %s", why)
            self._takes_late = False
            self._build_gate(replace(gate.plan, late=()))
            return
        _log.warning("warm start: %s", why)
        self._count_failure(why)

    def _replace_gate(self, why: str) -> None:
        """Start cold now, for no fault of the gate's; another one is built after that."""
        self.close()
        self._why = why

    def _drop_gate(self, why: str) -> None:
        """Start cold next, and build another gate after that, without what this one had learned to import."""
        if self._gate is not None and self._gate.plan.late:
            self._takes_late = False
        self.close()
        self._count_failure(why)

    def _count_failure(self, why: str) -> None:
        self._gate = None
        self._failures += 1
        self._why = why
        if self._failures >= _FAILURES:
            self._why = f"warm start is off after {self._failures} failures: {why}"


def _shorten_reason(why: str) -> str:
    """Make a line of a reason that may quote an exception of the engine's, for everyone to read."""
    return redaction.redact_text(" ".join(why.split()))[:_LONGEST]


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def _read_entries(pid: int, what: str) -> list[str]:
    try:
        return (procfs.PROC / str(pid) / what).read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return []
