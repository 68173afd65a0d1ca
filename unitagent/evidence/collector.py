"""The program that collects one rank's evidence: a child of the agent, with standard library alone.

It reads a request as JSON on stdin and reports lines of JSON on stdout: where its processes are, the cause
that their output names, what was written, and ``done`` when everything that a stop destroys is at hand.

The invariants: the main thread does nothing but watch the clock, so a read that hangs delays no answer, and
the deadline holds whatever hangs. Each part runs in a thread of its own and reports what it has. The process
ends when its own programs have, never before. Nothing is written, or reported, that is not masked.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitagent.evidence import folder, kernel, machine, stacks
from unitagent.evidence.masking import Mask
from unitagent.evidence.patterns import explain_output
from unitagent.evidence.places import find_place
from unitagent.evidence.programs import Programs
from unitagent.system import redaction
from unitagent.system.procfs import read_process
from unitagent.system.safe_output import escape_line, read_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitagent.evidence.kernel import ProcessSnapshot
    from unitagent.evidence.stacks import ThreadStack

_READ = 0.5  # of the time that is left: the most that reading one kind of thing from ``/proc`` may take
_MOST_PLACES = 64  # processes that are reported
_MOST_TOOLS = 8  # runs of py-spy at once
_MOST_TRIES = 3  # of py-spy for a process, which runs on while it is read
_LONGEST_ANSWER = 4 << 20  # bytes of a program's output


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to collect.

    Attributes:
        agent: whose workload it is.
        spared: its children that do not belong to the workload.
        folder: of this rank's evidence.
        private: the folder's root has to belong to this user.
        seconds: in which all has to be done.
        live: the processes still run, so there is something to see of them.
        texts: by name of the file, what the agent hands over: its decisions, the workload's output.

    """

    agent: int
    spared: tuple[int, ...]
    folder: str
    private: bool
    generation: int
    seconds: float
    live: bool
    texts: dict[str, list[str]]


class Latch:
    """An event that a signal handler may set: a lock that its own thread may hold could block it for ever."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        """Set it, once or several times."""
        os.write(self._writer, b".")

    def wait(self, seconds: float) -> None:
        """Wait until it is set."""
        select.select([self._reader], [], [], seconds)


class Collector:
    """One collection: threads look at what a stop destroys, and one writes what they have found.

    Attributes:
        over: everything is written.

    """

    def __init__(self, request: Request, report: Callable[[dict[str, Any]], None]) -> None:
        self.over = Latch()
        self._request = request
        self._send = report
        self._facts: dict[str, Any] = {}
        self._deadline = time.monotonic() + request.seconds
        self._programs = Programs()
        self._mask = Mask()
        self._texts: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Start both; each may hang."""
        for work in (self._look, self._write_files):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """End all programs; returns when they have ended."""
        self._programs.close()

    def _look(self) -> None:
        """Look at everything that a stop destroys, then let the agent go on."""
        parts: list[Callable[[], object]] = [self._read_pressure]
        if self._request.live:
            seen = self._read_processes()
            environs = [_parse_environment(one.environ) for one in seen]
            parts += [
                partial(self._collect_stacks, seen),
                partial(self._collect_communication, environs),
                partial(self._run_tool, "nvidia-smi.txt", ["nvidia-smi", "-q"]),
            ]
        kernel.run_threads(parts, self._left())
        self._send({"seen": True})
        self._keep_texts()
        self._keep_bytes(folder.REPORT, json.dumps(self._facts).encode())
        self._texts.put(None)

    def _report(self, facts: dict[str, Any]) -> None:
        """Report facts, which are also kept: they say what was seen where no store lists it."""
        self._facts.update(facts)
        self._send(facts)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _keep(self, name: str, text: str) -> None:
        """Let the other thread write this."""
        self._keep_bytes(name, self._mask.mask_text(text).encode(errors="replace"))

    def _keep_bytes(self, name: str, data: bytes) -> None:
        if data:
            self._texts.put((name, data))

    def _write_files(self) -> None:
        """Write all files; the disk may be slow."""
        request, size = self._request, 0
        place = Path(request.folder)
        try:
            made = folder.create_collection(place, request.generation, private=request.private)
            files = 0
            while (text := self._texts.get()) is not None:
                if size + len(text[1]) <= folder.MOST_BYTES // 2:
                    size += folder.write_file(made, *text)
                    files += 1
            self._send({"name": made.name, "files": files, "bytes": size})
            folder.remove_oldest(place)
        except OSError as error:
            self._send({"trouble": self._mask.mask_text(f"the evidence is not kept: {error}")})
        self._send({"done": True})
        self.over.set()

    def _read_processes(self) -> list[ProcessSnapshot]:
        spared = {*self._request.spared, os.getpid()}
        seen = kernel.read_processes(self._request.agent, spared, _READ * self._left() / 2)
        for one in seen:
            self._mask.learn_environment(one.environ)
        self._report_places(seen, {})
        return seen

    def _report_places(self, seen: list[ProcessSnapshot], found: dict[int, list[ThreadStack]]) -> None:
        places = []
        for one in seen[:_MOST_PLACES]:
            place = find_place(one, found.get(one.process.pid, ())).describe()
            places.append(
                {
                    name: self._mask.mask_text(each) if isinstance(each, str) else each
                    for name, each in place.items()
                }
            )
        self._report({"places": places})

    def _keep_texts(self) -> None:
        """Keep what the agent has handed over, and find the cause in it."""
        texts = {name: list(map(_show_line, lines)) for name, lines in self._request.texts.items()}
        output = [self._mask.mask_text(line) for line in texts.get("output.txt", ())]
        if cause := explain_output(output):
            self._report({"cause": cause})
        for name, lines in texts.items():
            self._keep(name, "\n".join([*lines, ""]) if lines else "")

    def _read_pressure(self) -> None:
        self._keep("pressure.txt", machine.read_pressure())

    def _collect_stacks(self, seen: list[ProcessSnapshot]) -> None:
        """Take the stacks of all Python processes, and report again where they are."""
        tool = stacks.find_tool()
        found: dict[int, list[ThreadStack]] = {}
        failed: dict[int, str] = {}
        pythons = [one.process.pid for one in seen if one.is_python]
        if tool is not None:
            turns = [pythons[first::_MOST_TOOLS] for first in range(_MOST_TOOLS)]
            works = [partial(self._dump_in_turn, tool, pids, found, failed) for pids in turns if pids]
            kernel.run_threads(works, self._left())
        for pid, why in [*failed.items()][:1]:
            self._report({"trouble": self._mask.mask_text(stacks.explain_failure(pid, why))})
        self._report_places(seen, found)
        self._keep("processes.txt", "\n\n".join(_format_process(one) for one in seen))
        if tool is None:
            self._report(
                {"trouble": "py-spy is not on PATH (pip install py-spy, or extra evidence): no Python stacks"}
            )
        text = [_format_stack(one, found, failed) for one in seen if one.is_python and tool is not None]
        self._keep("stacks.txt", "\n\n".join(text))

    def _dump_in_turn(
        self, tool: str, pids: list[int], found: dict[int, list[ThreadStack]], failed: dict[int, str]
    ) -> None:
        for pid in pids:
            for _ in range(_MOST_TRIES):
                raw = self._programs.run(stacks.build_command(tool, pid), self._deadline, _LONGEST_ANSWER)
                read = stacks.parse_stacks(raw)
                if any(one.frames for one in read):
                    found[pid] = read
                    failed.pop(pid, None)
                    break
                failed[pid] = stacks.describe_failure(raw)

    def _collect_communication(self, environs: list[dict[str, str]]) -> None:
        """Ask NCCL, which has no more time than is left."""
        self._keep("nccl-ras.txt", machine.ask_ras(environs, _READ * self._left()))
        for name, data in machine.collect_dumps(environs, _READ * self._left()):
            self._keep_bytes(name, data)

    def _run_tool(self, name: str, argv: list[str]) -> None:
        try:
            raw = self._programs.run(argv, self._deadline, _LONGEST_ANSWER)
        except FileNotFoundError:  # most machines have none
            return
        self._keep(name, raw.decode(errors="replace"))


def _show_line(line: str) -> str:
    """Return what a terminal would show of a line, which a progress bar may have rewritten."""
    return escape_line(read_shown(line))


def _parse_environment(entries: list[str]) -> dict[str, str]:
    return {name: text for name, _, text in (entry.partition("=") for entry in entries)}


def _format_process(seen: ProcessSnapshot) -> str:
    one = seen.process
    command = " ".join(redaction.redact_words(seen.argv)) or f"[{one.name}]"
    memory = ", ".join(f"{name} {text}" for name, text in seen.status.items())
    lines = [f"{one.pid} ({one.name}), parent {one.parent}, state {one.state}, CPU {seen.cpu_seconds:.1f} s"]
    lines += [f"  command: {command}", f"  {memory}"]
    lines += [f"  now: {seen.doing}"] if seen.doing else []
    lines += [f"  thread {wait}" for wait in seen.waits]
    lines += [f"  open: {path}" for path in seen.files]
    return "\n".join(lines)


def _format_stack(seen: ProcessSnapshot, found: dict[int, list[ThreadStack]], failed: dict[int, str]) -> str:
    pid, command = seen.process.pid, " ".join(redaction.redact_words(seen.argv))
    head = f"process {pid}: {command}"
    if pid in found:
        return f"{head}\n{stacks.format_stacks(found[pid])}"
    return f"{head}\n  {failed.get(pid, 'no answer in time')}"


def _make_reporter() -> Callable[[dict[str, Any]], None]:
    lock = threading.Lock()

    def report(facts: dict[str, Any]) -> None:
        with lock:
            try:
                os.write(1, json.dumps(facts).encode() + b"\n")
            except OSError:  # nobody waits any more
                return

    return report


def main() -> None:
    """Collect until everything is done, the deadline has passed or the agent says stop (SIGTERM)."""
    raw = json.loads(sys.stdin.buffer.read())
    request = Request(**{**raw, "spared": tuple(raw["spared"])})
    collector = Collector(request, _make_reporter())
    signal.signal(signal.SIGTERM, lambda *_: collector.over.set())
    if read_process(os.getppid()) is not None:
        collector.start()
        collector.over.wait(request.seconds)
    collector.close()
    os._exit(0)  # whatever hangs in a thread


if __name__ == "__main__":
    main()
