"""The gate of a warm start: an interpreter that has imported the engine, and forks a process for each start.

It runs under the engine's own Python, 3.9 to 3.14, as one file that needs nothing but the standard library;
:mod:`warm_start` is the agent's side. The agent's request forks a process, which becomes the agent's child
because its parent ends, and which waits. A *job* then makes it what a cold exec would have made: descriptors,
environment, limits, group, names and ``__main__``. It confirms, and runs the command.

What that process starts by multiprocessing's "spawn" comes from its *template*, which it has forked while it
was clean: single-threaded, with no descriptor of its owner. The stock code does everything but the exec.

The invariant: what cannot be reproduced exactly is refused with a reason, and whoever asked starts it cold.
"""

# ruff: noqa: PTH, S102
# (each start waits for this file: os in place of pathlib; running code is what it is for)

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import importlib
import json
import logging
import os
import resource
import runpy
import signal
import socket
import stat
import sys
import threading
import time
from importlib.machinery import BuiltinImporter, SourceFileLoader
from multiprocessing import process, util
from typing import Any, Dict  # Python 3.9

NAME, TEMPLATE = "unit-gate", "unit-template"
FORK, JOB, CONFIRMED = b"fork", b"job", b"ok"
ANSWER_SECONDS = 2.0
MOST_DESCRIPTORS = 250  # the kernel passes 253 at once; three are ours

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_MM, _PR_SET_MM_MAP = 1, 15, 35, 14
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)  # the number of clone(2)
_CAP_SYS_NICE = 23
_MESSAGE = 4096  # bytes

# Read when a program or a library is loaded, or when Python starts; too late in a fork.
_AT_LOAD = (b"LD_", b"GOMP_", b"KMP_", b"OMP_", b"MKL_", b"OPENBLAS_", b"MALLOC_", b"GLIBC_", b"PYTHON", b"LC_", b"LANG", b"TZ")  # fmt: skip # noqa: E501
_OMP_THREADS, _OMP_CPU = b"OMP_NUM_THREADS", b"GOMP_CPU_AFFINITY"  # libgomp's, which can be made up for
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores these at its start
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_IDENTITY = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/shm")  # noqa: S108
_SPAWN_MAIN = "from multiprocessing.spawn import spawn_main"

Job = Dict[str, Any]
"""What a process is to become: :func:`describe_state`, its environment, descriptors, words and program."""

_libc = ctypes.CDLL(None, use_errno=True)


class NotCleanError(Exception):
    """This process must not be forked; the text says why."""


class RefusalError(Exception):
    """A job cannot be done exactly; the text says why."""


# What a process is, read from itself


def read_environment() -> dict[bytes, bytes]:
    """Return the environment that an exec would inherit: libraries change it past ``os.environ``."""
    found = {}
    block = ctypes.POINTER(ctypes.c_char_p).in_dll(_libc, "environ")
    at = 0
    while block and (entry := block[at]) is not None:
        name, _, value = entry.partition(b"=")
        found[name] = value
        at += 1
    return found


def read_status() -> dict[str, str]:
    """Return the lines of ``/proc/self/status``."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def describe_place() -> dict[str, str]:
    """Return what a process inherits and nobody can give it: identity, session, namespaces, control groups.

    What is hidden from this process is left out.
    """
    status = read_status()
    place = {name: status[name] for name in _IDENTITY if name in status}
    place["session"] = str(os.getsid(0))
    place["scheduler"] = str(os.sched_getscheduler(0))
    for name in ("root", *(f"ns/{kind}" for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"))):
        try:
            place[name] = os.readlink(f"/proc/self/{name}")
        except OSError:
            continue
    for name in ("cgroup", "oom_score_adj"):
        try:
            with open(f"/proc/self/{name}", encoding="utf-8", errors="replace") as file:
                place[name] = file.read()
        except OSError:
            continue
    return place


def describe_state() -> dict[str, object]:
    """Return what a child of this thread would inherit, but for its environment and descriptors."""
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    return {
        "cwd": os.getcwd(),
        "umask": int(read_status()["Umask"], 8),
        "limits": [(number, *resource.getrlimit(number)) for number in _LIMITS],
        "cpus": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "group": os.getpgrp(),
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "ignored": sorted(map(int, ignored)),
        "place": describe_place(),
    }


def describe_descriptor(number: int) -> tuple[int, bool, int] | None:
    """Return what Python's file objects depend on; None if it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return stat.S_IFMT(found.st_mode), os.isatty(number), found.st_blksize


def list_descriptors() -> dict[int, str]:
    """Return the open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of this listing
            continue
    return found


def stamp_files(paths: object) -> dict[str, tuple[int, int] | None]:
    """Return time and size of each file; None for one that is not there."""
    found: dict[str, tuple[int, int] | None] = {}
    for path in paths:  # type: ignore[attr-defined]
        try:
            status = os.stat(path)
        except OSError:
            found[path] = None
        else:
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


class _MemoryMap(ctypes.Structure):
    """The kernel's ``struct prctl_mm_map``."""

    _fields_ = [  # noqa: RUF012
        *((name, ctypes.c_uint64) for name in ("start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end auxv".split())),  # noqa: E501, SIM905
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


class CommandLine:
    """The memory that ``ps`` reads the command line of this process from, and of its forks."""

    def __init__(self) -> None:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = [int(word) for word in file.read().rpartition(")")[2].split()[1:]]
        # proc(5) counts from 1: the 4th field comes first here
        self._code, self._stack, self._data, self._brk = fields[22:24], fields[24], fields[41:43], fields[43]
        self._start, self._end = fields[44], fields[45]
        self._kept: list[object] = []

    def show(self, words: list[str], environment: dict[bytes, bytes]) -> None:
        """Show this command line and environment.

        Where the kernel cannot move their ends (CONFIG_CHECKPOINT_RESTORE), zeros follow the command line,
        and the environment shown stays that of the gate.

        Raises:
            RefusalError: there is no room for the words.

        """
        text = b"\0".join(map(os.fsencode, words)) + b"\0"
        room = self._end - self._start
        if len(text) > room:
            raise RefusalError(f"its command line of {len(text)} bytes is longer than the {room} that were kept")
        ctypes.memmove(self._start, text.ljust(room, b"\0"), room)
        block = b"".join(b"%s=%s\0" % pair for pair in environment.items())
        copy = ctypes.create_string_buffer(block, max(len(block), 1))
        shown = ctypes.addressof(copy)
        sbrk = _libc.sbrk
        sbrk.restype, sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
        layout = _MemoryMap(*self._code, *self._data, self._brk, sbrk(0), self._stack, self._start,
                            self._start + len(text), shown, shown + len(block), 0, 0, 0xFFFFFFFF)  # fmt: skip
        _libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(layout), ctypes.sizeof(layout), 0)
        self._kept = [copy]  # the kernel reads it for as long as this process lives


class Image:
    """What this interpreter read at its start and has imported since; all forks share it."""

    def __init__(self) -> None:
        self.environment = read_environment()
        self.stdio = [describe_descriptor(number) for number in range(3)]
        self.command_line = CommandLine()
        self.log_level = logging.root.level
        self.imported: dict[bytes, bytes] = {}
        self.files: dict[str, tuple[int, int] | None] = {}
        self.absent: list[str] = []

    def import_modules(self, names: list[str]) -> None:
        """Import what an engine will need; a module that is not installed is passed over.

        Raises:
            NotCleanError: a module cannot be imported.

        """
        before = dict(os.environb)
        for name in names:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001  # whatever it is, it would not happen cold
                missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
                if not missing or not f"{name}.".startswith(f"{missing}."):
                    raise NotCleanError(f"importing {name} fails: {error!r}"[:500]) from error
                self.absent.append(name)
        if len(self.absent) == len(names):
            raise NotCleanError(f"none of its modules is installed: {', '.join(names)}")
        self.imported = {name: value for name, value in os.environb.items() if before.get(name) != value}
        if (titles := sys.modules.get("setproctitle")) is not None:
            titles.getproctitle()  # it finds the command line only while the environment is in its place
        paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            paths |= {line[line.index("/") :].rstrip("\n") for line in file if "/" in line}
        self.files = stamp_files(path for path in paths if isinstance(path, str) and path)

    def find_changed_file(self) -> str:
        """Return a file that has changed since it was imported; else an empty string."""
        now = stamp_files(self.files)
        return next((path for path, stamp in self.files.items() if now[path] != stamp), "")

    def check_clean(self, kept: set[int]) -> None:
        """Check that a fork of this process is worth as much as a new one; ``kept``: its own descriptors.

        Raises:
            NotCleanError: it is not.

        """
        pid = os.fork()  # once, because OpenBLAS ends its threads before a fork
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        tasks = os.listdir("/proc/self/task")
        if len(tasks) > 1:
            raise NotCleanError(f"its imports start {len(tasks) - 1} threads")
        opened = {number: what for number, what in list_descriptors().items() if number not in kept}
        if opened:
            raise NotCleanError(f"its imports leave open {', '.join(sorted(opened.values()))}")
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            mapped = next((line.split()[-1] for line in file if any(name in line for name in _DEVICES)), "")
        if mapped:
            raise NotCleanError(f"its imports map {mapped}")
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            raise NotCleanError("its imports initialize CUDA")
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        raise NotCleanError("its imports start a process")


# The service: forks on request


def hide_process(name: str, link: socket.socket) -> None:
    """Make this process a service of the one that it serves: ends with it, and has only the link to it open."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.prctl(_PR_SET_NAME, name.encode())
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    for number in list_descriptors():
        if number > 2 and number != link.fileno():  # noqa: PLR2004
            try:
                os.close(number)
            except OSError:  # the descriptor of the listing
                continue


def serve(link: socket.socket) -> socket.socket:
    """Fork for each request, for ever; return only in a process that was forked, with its conversation."""
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(link, _MESSAGE, 1)
        except OSError:
            os._exit(0)
        if not data or not fds:  # who is served has gone
            os._exit(0)
        conversation = socket.socket(fileno=fds[0])
        reader, writer = os.pipe()
        try:
            middle = os.fork()
        except OSError as error:
            answer = str(error).encode()
        else:
            if middle == 0 and fork_orphan(writer):
                for other in (link.detach(), reader, writer):
                    os.close(other)
                return conversation
            os.close(writer)
            writer = -1
            answer = os.read(reader, _MESSAGE)
            os.waitpid(middle, 0)  # from here on the new process has its parent
        for other in (reader, writer):
            if other >= 0:
                os.close(other)
        conversation.close()
        link.send(answer or b"it ended")


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


def hand_over(
    conversation: socket.socket, job: Job, fds: list[int], timeout: float = ANSWER_SECONDS
) -> None:
    """Give a waiting process its job; it has begun when this returns.

    Raises:
        OSError: it refuses, does not answer in time, or has ended; it must be killed.

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
        raise OSError(answer.decode(errors="replace") or "it ended")


def take_job(image: Image, conversation: socket.socket) -> Job:
    """Wait for a job and become what it says; ends this process if there is none, or if it cannot."""
    data, fds, _, _ = socket.recv_fds(conversation, _MESSAGE, MOST_DESCRIPTORS + 3)
    if not data:
        os._exit(0)
    try:
        job: Job = json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        os.close(fds[0])
        conversation = place_descriptors(fds[1:], job["numbers"], conversation)
        become(image, job)
        conversation.sendall(CONFIRMED)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the process starts cold
        why = str(error) if isinstance(error, RefusalError) else repr(error)
        try:
            conversation.sendall(why.encode(errors="replace")[:_MESSAGE])
        finally:
            os._exit(1)
    conversation.close()
    return job


def become(image: Image, job: Job) -> None:
    """Make of this process what an exec would have made; its descriptors are in their places already.

    Raises:
        RefusalError: it would not be the same.

    """
    if changed := image.find_changed_file():
        raise RefusalError(f"{changed} has changed since it was imported")
    mine, theirs = describe_place(), job["place"]
    for name in mine.keys() & theirs.keys():
        if mine[name] != theirs[name]:
            raise RefusalError(f"{name} is {theirs[name].strip()!r}, and was {mine[name].strip()!r}")
    _libc.prctl(_PR_SET_PDEATHSIG, 0)
    environment = choose_environment(image, job)
    set_environment(environment)
    os.chdir(job["cwd"])
    os.umask(job["umask"])
    for number, *limit in job["limits"]:
        if resource.getrlimit(number) != tuple(limit):
            resource.setrlimit(number, tuple(limit))
    if os.sched_getaffinity(0) != set(job["cpus"]):
        os.sched_setaffinity(0, job["cpus"])
    if os.getpriority(os.PRIO_PROCESS, 0) != job["nice"]:
        os.setpriority(os.PRIO_PROCESS, 0, job["nice"])
    if job["group"] != os.getpgrp():
        os.setpgid(0, job["group"])  # 0: a group of its own
    refresh_libraries(image, environment, job)
    image.command_line.show(job["words"], environment)
    _libc.prctl(_PR_SET_NAME, os.fsencode(job["name"])[:15])
    set_signals(job["ignored"], job["mask"])


def choose_environment(image: Image, job: Job) -> dict[bytes, bytes]:
    """Return the environment of a job. A command gets what its own imports would have changed, too: they were
    done in the gate.
    """
    asked = {os.fsencode(name): os.fsencode(value) for name, value in job["env"]}
    if job["spawned"]:
        return asked
    own = {k: v for k, v in image.imported.items() if asked.get(k) == image.environment.get(k)}
    return {**asked, **own}


def place_descriptors(fds: list[int], numbers: list[int], conversation: socket.socket) -> socket.socket:
    """Give each descriptor its number; close those of the standard ones that the job has not."""
    above = max([*numbers, *fds, conversation.fileno(), 2]) + 1
    moved = socket.socket(fileno=fcntl.fcntl(conversation, fcntl.F_DUPFD_CLOEXEC, above))
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in (*fds, conversation.detach()):
        os.close(fd)
    for number in {0, 1, 2}.difference(numbers):
        os.close(number)
    for fd, number in zip(high, numbers):  # noqa: B905  # Python 3.9 has no strict
        os.dup2(fd, number)
        os.close(fd)
    return moved


def set_environment(wanted: dict[bytes, bytes]) -> None:
    """Change the environment by the difference: setproctitle needs the block as it was."""
    for name in read_environment().keys() | os.environb.keys():
        if name not in wanted:
            os.environb[name] = b""  # a name that only the C library knows cannot be deleted
            del os.environb[name]
    present = read_environment()
    for name, value in wanted.items():
        if os.environb.get(name) != value or present.get(name) != value:
            os.environb[name] = value


def set_signals(ignored: list[int], mask: list[int]) -> None:
    """Ignore these signals, and no others that are ignored now; then block ``mask``."""
    for number in signal.valid_signals() - _OF_PYTHON:
        is_ignored = signal.getsignal(number) == signal.SIG_IGN
        if is_ignored and number not in ignored:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        elif number in ignored and not is_ignored:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def refresh_libraries(image: Image, environment: dict[bytes, bytes], job: Job) -> None:
    """Renew what libraries made at random, or of the environment, when they were imported."""
    if (tempfile := sys.modules.get("tempfile")) is not None:
        tempfile.tempdir = None
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if not job["spawned"]:
        process.current_process().authkey = os.urandom(32)
    elif logging.root.level != image.log_level:  # an import of the main process's
        logging.root.setLevel(image.log_level)
    torch, before = sys.modules.get("torch"), image.environment
    if torch is not None:
        torch.default_generator.seed()
        threads = environment.get(_OMP_THREADS)
        if threads != before.get(_OMP_THREADS):
            torch.set_num_threads(int(threads or len(job["cpus"])))
    cpu = environment.get(_OMP_CPU)
    if cpu is not None and cpu != before.get(_OMP_CPU):
        os.sched_setaffinity(0, {int(cpu)})


# What multiprocessing starts


class Spawner:
    """Spawns multiprocessing's children from the template of one process, its owner."""

    def __init__(self, image: Image, link: socket.socket) -> None:
        self._image, self._link = image, link
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._stock = util.spawnv_passfds
        util.spawnv_passfds = self.spawn

    def spawn(self, path: str, args: list[str], passfds: list[int]) -> int:
        """Do what ``spawnv_passfds`` does, which executes a new interpreter; return the pid."""
        words = [os.fsdecode(word) for word in args]
        if len(words) < 3 or not words[-2].startswith(_SPAWN_MAIN):  # noqa: PLR2004
            return int(self._stock(path, args, passfds))  # not a process of the user's
        numbers = sorted({*map(int, passfds), *(n for n in range(3) if describe_descriptor(n))})
        why = self._explain_cold(path, numbers)
        if not why:
            try:
                return self._spawn_warm(words, numbers)
            except OSError as error:
                why = str(error)
        try:
            sys.stderr.write(f"unitagent: process {os.getpid()} spawns cold: {why}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001, S110  # it has no stderr
            pass
        return int(self._stock(path, args, passfds))

    def _explain_cold(self, path: str, numbers: list[int]) -> str:
        """Return why the template would not give the same process; else an empty string."""
        if os.getpid() != self._owner:
            return "it is a fork of a process that starts warm"
        if os.fsdecode(path) != sys.executable:
            return f"the interpreter is {os.fsdecode(path)}"
        if len(numbers) > MOST_DESCRIPTORS:
            return f"it hands on {len(numbers)} descriptors, and the kernel takes {MOST_DESCRIPTORS}"
        if [describe_descriptor(number) for number in range(3)] != self._image.stdio:
            return "its stdin, stdout or stderr leads elsewhere"
        now, before = read_environment(), self._image.environment
        for name in sorted(now.keys() | before.keys()):
            if name == _OMP_THREADS or (name == _OMP_CPU and now.get(name, b"").isdigit()):
                continue
            if name.startswith(_AT_LOAD) and now.get(name) not in (before.get(name), self._image.imported.get(name)):
                return f"{os.fsdecode(name)} differs from that of the gate"
        return ""

    def _spawn_warm(self, words: list[str], numbers: list[int]) -> int:
        job = {
            **describe_state(),
            "spawned": True,
            "program": ("command", words[-2]),
            "argv": ["-c", *words[-1:]],
            "words": words,
            "name": os.path.basename(words[0]),
            "path": "",
            "env": [(os.fsdecode(k), os.fsdecode(v)) for k, v in read_environment().items()],
            "numbers": numbers,
        }
        with self._lock:
            pid, conversation = self._request_process()
        try:
            hand_over(conversation, job, numbers)
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


# What runs in the end


def prepare_program(job: Job) -> functools.partial[object]:
    """Set up ``sys`` and ``__main__`` as the interpreter does for this command line; return the call to make.

    Its caller is the first line of ``__main__``, so no frame of this file stands below the command.
    """
    kind, target = job["program"]
    sys.argv[:] = job["argv"]
    if hasattr(sys, "orig_argv"):  # since Python 3.10
        sys.orig_argv[:] = job["words"]
    set_first_path(job["path"])
    main = sys.modules["__main__"]
    if kind == "file":
        target = os.path.join(job["cwd"], target[2:] if target.startswith("./") else target)
    loader = SourceFileLoader("__main__", target) if kind == "file" else BuiltinImporter
    blank = {"__name__": "__main__", "__doc__": None, "__package__": None, "__loader__": loader, "__spec__": None}
    kept = {name: main.__dict__[name] for name in ("__annotations__", "__builtins__") if name in main.__dict__}
    main.__dict__.clear()
    main.__dict__.update(blank, **kept)
    if "__annotations__" in kept:
        kept["__annotations__"].clear()
    if kind == "module":
        sys.modules.pop(target, None)  # a cold start has not imported it, and warns if it has
        return functools.partial(runpy._run_module_as_main, target)  # type: ignore[attr-defined]
    if kind == "command":
        return functools.partial(exec, compile(target, "<string>", "exec", dont_inherit=True), main.__dict__)
    main.__dict__.update(__file__=target, __cached__=None)
    with open(target, "rb") as file:
        code = compile(file.read(), target, "exec", dont_inherit=True)
    return functools.partial(exec, code, main.__dict__)


def set_first_path(path: str) -> None:
    """Set the entry of ``sys.path`` that comes from the command line, unless options omit it."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = path


def lower_priority() -> int | None:
    """Give way to all others, if this process may return from that; return the priority before."""
    if not int(read_status().get("CapEff", "0"), 16) >> _CAP_SYS_NICE & 1:
        return None
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    return before


def build_image(plan: Job, link: socket.socket) -> Image:
    """Import everything and report; ends this process if it may not be forked."""
    began = time.monotonic()
    image = Image()
    hide_process(NAME, link)
    if os.getppid() != plan["agent"]:
        os._exit(1)
    before = lower_priority()
    sys.argv[:] = plan["argv"]
    set_first_path(plan["path"])
    try:
        image.import_modules(plan["modules"])
        image.check_clean({0, 1, 2, link.fileno()})
    except NotCleanError as error:
        link.sendall(json.dumps({"refused": str(error)}).encode())
        os._exit(1)
    if before is not None:
        os.setpriority(os.PRIO_PROCESS, 0, before)
    gc.collect()
    gc.freeze()
    seconds = round(time.monotonic() - began, 3)
    link.sendall(json.dumps({"ready": seconds, "modules": len(sys.modules), "absent": image.absent}).encode())
    return image


def main() -> functools.partial[object]:
    """Serve the agent; return, in each process that is forked for a job, the call that runs it."""
    link = socket.socket(fileno=int(sys.argv[1]))
    with open(int(sys.argv[2]), encoding="utf-8") as file:
        plan = json.load(file)
    image = build_image(plan, link)
    conversation = serve(link)
    while True:
        job = take_job(image, conversation)
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        owner = os.getpid()
        if fork_hidden():
            its.close()
            Spawner(image, mine)
            return prepare_program(job)
        conversation = serve_as_template(image, its, owner)


def serve_as_template(image: Image, link: socket.socket, owner: int) -> socket.socket:
    """Serve a process as its template, out of its group, with nothing of it open."""
    hide_process(TEMPLATE, link)
    os.setpgid(0, 0)
    os.chdir("/")
    image.command_line.show([TEMPLATE], {})
    if os.getppid() != owner:
        os._exit(0)
    return serve(link)
