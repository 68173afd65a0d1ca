"""The gate of a warm start: an interpreter that has imported the engine, and forks a process for each start.

It runs under the engine's own Python; :mod:`warm_start` is the agent's side. The agent's request forks a
process, which becomes the agent's child because its parent ends, and which waits. A *job* then makes of it
what a cold exec would have made (:mod:`warm_process`). It confirms, and runs the command.

What that process starts by multiprocessing's "spawn" comes from its *template*, which it has forked while it
was clean: single-threaded, with no descriptor of its owner. The stock code does everything but the exec.

The invariant: what cannot be reproduced exactly is refused with a reason, and whoever asked starts it cold.
"""

# ruff: noqa: PTH119, PTH123
# (each start waits for this file, so os in place of pathlib)

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from typing import Any

from unitagent.workload.warm_process import (
    OMP_CPU,
    OMP_THREADS,
    Job,
    NotCleanError,
    RefusalError,
    WarmInterpreter,
    describe_descriptor,
    describe_state,
    detach_as_service,
    emulate_exec,
    lower_priority,
    place_descriptors,
    prepare_program,
    read_environment,
)
from unitagent.workload.warm_record import Record

NAME, WAITING, TEMPLATE = "unit-gate", "unit-waiting", "unit-template"
FORK, JOB, CONFIRMED, DIFFERS = b"fork", b"job", b"ok", "differs: "
ANSWER_SECONDS = 2.0
MOST_DESCRIPTORS = 250  # the kernel passes 253 at once; three are ours

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 15, 36, 37
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)  # the number of clone(2)
_MESSAGE = 4096  # bytes
_FIRST_TO_GO = "1000"  # what is only there to save time goes before the workload if memory is short
_LONGEST = 500  # characters of a text in a message, which are up to 6 bytes each as JSON
_SPAWN_MAIN = "from multiprocessing.spawn import spawn_main"
# Read when a program or a library is loaded, or when Python starts; too late in a fork.
_AT_LOAD = (
    b"LD_", b"GOMP_", b"KMP_", b"OMP_", b"MKL_", b"OPENBLAS_", b"MALLOC_", b"GLIBC_", b"PYTHON",
    b"LC_", b"LANG", b"TZ",
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class MismatchError(OSError):
    """A process of this gate would not be what was asked for; one of a new gate may be."""


# The service: forks on request


def serve(link: socket.socket) -> socket.socket:
    """Fork for each request, for ever; return only in a process that was forked, with its conversation."""
    while True:
        try:
            conversation = answer_request(link)
        except BaseException:  # noqa: BLE001  # nothing that was imported may run at the end of this process
            os._exit(1)
        if conversation is not None:
            return conversation


def answer_request(link: socket.socket) -> socket.socket | None:
    """Fork for the next request and report the pid; return, in the new process alone, its conversation."""
    data, fds, _, _ = socket.recv_fds(link, _MESSAGE, 1)
    if not data or not fds:  # who is served has gone
        os._exit(0)
    conversation = socket.socket(fileno=fds[0])
    reader, writer = os.pipe()
    try:
        middle = os.fork()
    except OSError as error:
        answer = str(error).encode()
        os.close(writer)
    else:
        if middle == 0 and fork_orphan(writer):
            for other in (link.detach(), reader, writer):
                os.close(other)
            _libc.prctl(_PR_SET_NAME, WAITING.encode())
            return conversation
        os.close(writer)
        answer = os.read(reader, _MESSAGE)
        os.waitpid(middle, 0)  # from here on the new process has its parent
    os.close(reader)
    conversation.close()
    link.send(answer or b"it ended")
    return None


def fork_orphan(writer: int) -> bool:
    """Fork once more and end, so that the nearest subreaper above gets the new process; True in that."""
    try:
        pid = os.fork()
    except OSError as error:
        os.write(writer, str(error).encode())
        os._exit(1)
    if pid == 0:
        return True
    os.write(writer, b"%d" % pid)
    os._exit(0)


def fork_hidden() -> int:
    """Fork a child that ``wait`` does not see: it has no signal for its end.

    A command that waits for all of its children would wait for its template.
    """
    if _CLONE is None:
        return os.fork()
    api = ctypes.pythonapi
    api.syscall.restype = ctypes.c_long
    api.PyOS_BeforeFork()
    pid = int(api.syscall(ctypes.c_long(_CLONE), *(ctypes.c_long(0) for _ in range(5))))
    (api.PyOS_AfterFork_Child if pid == 0 else api.PyOS_AfterFork_Parent)()
    if pid < 0:
        raise OSError("no process can be forked")
    return pid


# The conversation: a job, and what comes of it


def hand_over(conversation: socket.socket, job: Job, fds: list[int], timeout: float = ANSWER_SECONDS) -> None:
    """Give a waiting process its job; it has begun when this returns.

    Raises:
        MismatchError: it would not be the same as a cold one.
        OSError: it fails, does not answer in time, or has ended. In each case it must be killed.

    """
    memory = os.memfd_create("unit-job")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(json.dumps(job).encode())
        conversation.settimeout(timeout)
        socket.send_fds(conversation, [JOB], [memory, *fds])
        answer = conversation.recv(_MESSAGE)
    finally:
        os.close(memory)
    if answer != CONFIRMED:
        why = answer.decode(errors="replace")
        if why.startswith(DIFFERS):
            raise MismatchError(why[len(DIFFERS) :])
        raise OSError(why or "it ended")


def take_job(interpreter: WarmInterpreter, conversation: socket.socket) -> tuple[Callable[[], object], bool]:
    """Wait for a job, become what it says, and return the call that runs it, and whether it was spawned.

    Ends this process if there is no job, or if it cannot do it.
    """
    try:
        data, fds, _, _ = socket.recv_fds(conversation, _MESSAGE, MOST_DESCRIPTORS + 3)
        if not data:
            os._exit(0)
        job: Job = json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        os.close(fds[0])
        write_oom_score(interpreter.oom_score)
        conversation = place_descriptors(fds[1:], job["numbers"], conversation)
        emulate_exec(interpreter, job)
        program = prepare_program(interpreter, job)
        conversation.sendall(CONFIRMED)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the process starts cold
        why = f"{DIFFERS}{error}" if isinstance(error, RefusalError) else repr(error)
        try:
            conversation.sendall(why.encode(errors="replace")[:_MESSAGE])
        finally:
            os._exit(1)
    conversation.close()
    return program, bool(job["spawned"])


def move_to_high_fd(link: socket.socket) -> socket.socket:
    """Give a socket one of the highest numbers."""
    highest = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1024) - 1
    try:
        return socket.socket(fileno=fcntl.fcntl(link, fcntl.F_DUPFD_CLOEXEC, highest - 16))
    finally:
        link.close()


# What multiprocessing starts


class Spawner:
    """Spawns multiprocessing's children from the template of one process, its owner."""

    def __init__(self, interpreter: WarmInterpreter, record: Record, link: socket.socket) -> None:
        self._interpreter, self._record, self._link = (
            interpreter,
            record,
            move_to_high_fd(link),
        )  # the owner's descriptors have the numbers as cold
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._stock: Any = util.spawnv_passfds
        util.spawnv_passfds = self.spawn  # type: ignore[assignment]

    def spawn(self, path: str, args: list[str], passfds: list[int]) -> int:
        """Do what ``spawnv_passfds`` does, which executes a new interpreter; return the pid."""
        words = [os.fsdecode(word) for word in args]
        if len(words) < 3 or not words[-2].startswith(_SPAWN_MAIN):  # noqa: PLR2004
            return int(self._stock(path, args, passfds))  # not a process of the user's
        self._record.note_environment(read_environment())
        descriptors = sorted({*map(int, passfds), *(n for n in range(3) if describe_descriptor(n))})
        why = self._explain_cold(path, descriptors)
        if not why:
            try:
                return self._spawn_warm(words, descriptors)
            except OSError as error:
                why = str(error)
        try:
            sys.stderr.write(f"unitagent: process {os.getpid()} spawns cold: {why}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001, S110  # it has no stderr
            pass
        return int(self._stock(path, args, passfds))

    def _explain_cold(self, path: str, descriptors: list[int]) -> str:
        """Return why the template would not give the same process; else an empty string."""
        if os.getpid() != self._owner:
            return "it is a fork of a process that starts warm"
        if os.fsdecode(path) != sys.executable:
            return f"the interpreter is {os.fsdecode(path)}"
        if len(descriptors) > MOST_DESCRIPTORS:
            return f"it hands on {len(descriptors)} descriptors, and the kernel takes {MOST_DESCRIPTORS}"
        if [describe_descriptor(number) for number in range(3)] != self._interpreter.stdio:
            return "its stdin, stdout or stderr leads elsewhere"
        now, before = read_environment(), self._interpreter.environment
        for name in sorted(now.keys() | before.keys()):
            if name == OMP_THREADS or (name == OMP_CPU and now.get(name, b"").isdigit()):
                continue
            if name.startswith(_AT_LOAD) and now.get(name) not in (
                before.get(name),
                self._interpreter.imported.get(name),
            ):
                return f"{os.fsdecode(name)} differs from that of the gate"
        return ""

    def _spawn_warm(self, words: list[str], descriptors: list[int]) -> int:
        job = {
            **describe_state(),
            "spawned": True,
            "program": ("command", words[-2]),
            "argv": ["-c", *words[-1:]],
            "words": words,
            "name": os.path.basename(words[0]),
            "path": "",
            "env": [(os.fsdecode(k), os.fsdecode(v)) for k, v in read_environment().items()],
            "numbers": descriptors,
        }
        with self._lock:
            pid, conversation = self._request_process()
        try:
            hand_over(conversation, job, descriptors)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            conversation.close()
        return pid

    def _request_process(self) -> tuple[int, socket.socket]:
        """Let the template fork; while it does, orphans below this process become its children."""
        before = ctypes.c_int()
        _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            self._link.settimeout(ANSWER_SECONDS)
            socket.send_fds(self._link, [FORK], [its.fileno()])
            answer = self._link.recv(_MESSAGE)
        except OSError:
            mine.close()
            self._link.close()  # a late answer would be taken for the next one's
            raise
        finally:
            its.close()
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value)
        if not answer.isdigit():
            mine.close()
            raise OSError(answer.decode(errors="replace") or "the template has ended")
        return int(answer), mine


# Its life


def read_oom_score() -> str:
    """Return how soon the kernel ends this process if memory is short; empty if it is hidden."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write_oom_score(score: str) -> None:
    """Set it, where the kernel allows that."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(score)
    except OSError:
        pass


def make_warm_interpreter(plan: Job, link: socket.socket) -> WarmInterpreter:
    """Import everything and report; ends this process if it may not be forked."""
    began = time.monotonic()
    interpreter = WarmInterpreter()
    detach_as_service(NAME, link)
    if os.getppid() != plan["agent"]:
        os._exit(1)
    before = lower_priority()
    interpreter.oom_score = read_oom_score()
    write_oom_score(_FIRST_TO_GO)
    sys.argv[:] = plan["argv"]
    interpreter.set_first_path(plan["path"])
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # so that a daemon of an import is found, too
    try:
        interpreter.import_modules(plan["modules"], plan["late"])
        interpreter.check_clean({0, 1, 2, link.fileno()})
    except NotCleanError as error:
        link.sendall(json.dumps({"refused": str(error)[:_LONGEST]}).encode())
        os._exit(1)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    if before is not None:
        os.setpriority(os.PRIO_PROCESS, 0, before)
    interpreter.command_line.show([NAME], interpreter.environment)
    _libc.prctl(_PR_SET_NAME, NAME.encode())  # setproctitle has changed it
    gc.collect()
    gc.freeze()
    seconds = round(time.monotonic() - began, 3)
    absent = ", ".join(interpreter.absent)[:_LONGEST]
    report = {"ready": seconds, "cpu": round(time.process_time(), 3), "modules": len(sys.modules)}
    link.sendall(json.dumps({**report, "absent": absent}).encode())
    return interpreter


def main() -> Callable[[], object]:
    """Serve the agent; return, in each process that is forked for a job, the call that runs it."""
    link = socket.socket(fileno=int(sys.argv[1]))
    for name in (__name__, WarmInterpreter.__module__, Record.__module__):
        del sys.modules[name]  # the command sees none of it
    with open(int(sys.argv[2]), encoding="utf-8") as file:
        plan = json.load(file)
    record = Record(int(sys.argv[4]))
    interpreter = make_warm_interpreter(plan, link)
    conversation = serve(link)
    while True:
        program, spawned = take_job(interpreter, conversation)
        template = fork_template(interpreter, record)
        if template is None:
            record.follow_imports(int(spawned))
            return program
        conversation = serve(template)


def fork_template(interpreter: WarmInterpreter, record: Record) -> socket.socket | None:
    """Fork a template for what this process will spawn; return the link to its owner in that alone.

    It is out of the group of its owner and has nothing of it open. If there can be none, all is spawned cold.
    """
    owner = os.getpid()
    try:
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if fork_hidden():
            its.close()
            Spawner(interpreter, record, mine)
            return None
    except OSError:
        return None
    try:
        mine.close()
        detach_as_service(TEMPLATE, its)
        write_oom_score(_FIRST_TO_GO)
        os.setpgid(0, 0)
        os.chdir("/")
        interpreter.command_line.show([TEMPLATE], {})
    finally:
        if os.getppid() != owner or sys.exc_info()[0] is not None:
            os._exit(1)
    return its
