"""Turns a fork that has its imports done into what a fresh exec would be: describe, check, apply.

It runs under the engine's own Python, 3.9 to 3.14, with nothing but the standard library (:mod:`warm_gate`).
What is read when a program is loaded, or when Python starts, cannot be made up for in a fork; all else can.
"""

# ruff: noqa: PTH109, PTH115, PTH116, PTH118, PTH123, PTH208, UP006, UP035, FURB188
# (each start waits for this file, so os in place of pathlib; Python 3.9)

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import importlib
import logging
import os
import resource
import runpy
import signal
import socket
import stat
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader
from multiprocessing import process
from typing import Any, Callable, Dict

Job = Dict[str, Any]
"""What a process is to become: :func:`describe_state`, its environment, descriptors, words and program."""

OMP_THREADS, OMP_CPU = b"OMP_NUM_THREADS", b"GOMP_CPU_AFFINITY"  # libgomp's, which can be made up for

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_MM, _PR_SET_MM_MAP = 1, 15, 35, 14
_CAP_SYS_NICE = 23
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores these at its start
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_IDENTITY = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/shm")  # noqa: S108
_LAYOUT = (
    "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
    "arg_start", "arg_end", "env_start", "env_end", "auxv",
)  # fmt: skip

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
    for name in ("root", *(f"ns/{kind}" for kind in _NAMESPACES)):
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


def describe_import_state() -> dict[str, object]:
    """Return the state that imports must leave alone: each job replaces it, or a fork loses it."""
    return {**describe_state(), "argv": list(sys.argv), "alarm": any(signal.getitimer(signal.ITIMER_REAL))}


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

    _fields_ = [
        *((name, ctypes.c_uint64) for name in _LAYOUT),
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
            raise RefusalError(
                f"its command line of {len(text)} bytes is longer than the {room} that were kept"
            )
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


class WarmInterpreter:
    """What this interpreter read at its start and has imported since; all forks share it."""

    def __init__(self) -> None:
        self.environment = read_environment()
        self.stdio = [describe_descriptor(number) for number in range(3)]
        self.command_line = CommandLine()
        self.log_level = logging.root.level
        self.imported: dict[bytes, bytes] = {}
        self.removed: frozenset[bytes] = frozenset()
        self._first_path = ""  # what -c has put there
        self.oom_score = ""
        self.files: dict[str, tuple[int, int] | None] = {}
        self.absent: list[str] = []

    def import_modules(self, names: list[str], late: list[str]) -> None:
        """Import what an engine will need; a module that is not installed is passed over. ``late`` are those
        that earlier starts have imported themselves.

        Raises:
            NotCleanError: a module cannot be imported.

        """
        before, state = dict(os.environb), describe_import_state()
        with contextlib.suppress(Exception):  # it finds the command line only while that is in its place
            importlib.import_module("setproctitle").getproctitle()
        for name in (*names, *late):
            try:
                importlib.import_module(name)
            except BaseException as error:  # whatever it is, it would not happen cold
                missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
                if not missing or not f"{name}.".startswith(f"{missing}."):
                    raise NotCleanError(f"importing {name} fails: {error!r}"[:500]) from error
                self.absent.append(name)
        if self.absent[: len(names)] == names:
            raise NotCleanError(f"none of its modules is installed: {', '.join(names)}")
        if changed := [name for name, value in describe_import_state().items() if state[name] != value]:
            raise NotCleanError(f"its imports change {', '.join(sorted(changed))}")
        self.imported = {name: value for name, value in os.environb.items() if before.get(name) != value}
        self.removed = frozenset(before.keys() - os.environb.keys())
        paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            paths |= {line[line.index("/") :].rstrip("\n") for line in file if "/" in line}
        self.files = stamp_files(path for path in paths if isinstance(path, str) and path)

    def set_first_path(self, path: str) -> None:
        """Set the entry of ``sys.path`` that comes from the command line, unless options omit it. It may not
        be the first any more: imports insert theirs before it.

        Raises:
            ValueError: an import has removed it.

        """
        if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
            sys.path[sys.path.index(self._first_path)] = path
            self._first_path = path

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


# What makes another process of it


def detach_as_service(name: str, link: socket.socket) -> None:
    """Make this process a service: it ends with the one it serves, and has nothing open but its link."""
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


def lower_priority() -> int | None:
    """Give way to all others, if this process may return from that; return the priority before."""
    if not int(read_status().get("CapEff", "0"), 16) >> _CAP_SYS_NICE & 1:
        return None
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    return before


def emulate_exec(interpreter: WarmInterpreter, job: Job) -> None:
    """Make of this process what an exec would have made; its descriptors are in their places already.

    Raises:
        RefusalError: it would not be the same.

    """
    if changed := interpreter.find_changed_file():
        raise RefusalError(f"{changed} has changed since it was imported")
    mine, theirs = describe_place(), job["place"]
    for name in mine.keys() & theirs.keys():
        if mine[name] != theirs[name]:
            raise RefusalError(f"{name} is {theirs[name].strip()!r}, and was {mine[name].strip()!r}")
    environment = choose_environment(interpreter, job)
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
    refresh_libraries(interpreter, environment, job)
    interpreter.command_line.show(job["words"], environment)
    _libc.prctl(_PR_SET_NAME, os.fsencode(job["name"])[:15])
    set_signals(job["ignored"], job["mask"])


def choose_environment(interpreter: WarmInterpreter, job: Job) -> dict[bytes, bytes]:
    """Return the environment of a job. A command gets what its own imports would have changed, too: they were
    done in the gate.
    """
    asked = {os.fsencode(name): os.fsencode(value) for name, value in job["env"]}
    if job["spawned"]:
        return asked
    own = {k: v for k, v in interpreter.imported.items() if asked.get(k) == interpreter.environment.get(k)}
    gone = {name for name in interpreter.removed if asked.get(name) == interpreter.environment.get(name)}
    return {name: value for name, value in {**asked, **own}.items() if name not in gone}


def place_descriptors(fds: list[int], targets: list[int], conversation: socket.socket) -> socket.socket:
    """Move each descriptor to its target number, and close the standard ones that the job does not have.

    Returns the conversation, which moves to a number above all of them.
    """
    above = max([*targets, *fds, conversation.fileno(), 2]) + 1
    moved = socket.socket(fileno=fcntl.fcntl(conversation, fcntl.F_DUPFD_CLOEXEC, above))
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in (*fds, conversation.detach()):
        os.close(fd)
    for number in {0, 1, 2}.difference(targets):
        os.close(number)
    for fd, number in zip(parked, targets):  # noqa: B905  # Python 3.9 has no strict
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


def refresh_libraries(interpreter: WarmInterpreter, environment: dict[bytes, bytes], job: Job) -> None:
    """Renew what libraries made at random, or of the environment, when they were imported."""
    if (tempfile := sys.modules.get("tempfile")) is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    if not job["spawned"]:
        process.current_process().authkey = os.urandom(32)
    elif logging.root.level != interpreter.log_level:  # an import of the main process's
        logging.root.setLevel(interpreter.log_level)
    torch, before = sys.modules.get("torch"), interpreter.environment
    if torch is not None:
        torch.default_generator.seed()
        threads = environment.get(OMP_THREADS)
        if threads != before.get(OMP_THREADS):
            torch.set_num_threads(int(threads or len(job["cpus"])))
    cpu = environment.get(OMP_CPU)
    if cpu is not None and cpu != before.get(OMP_CPU):
        os.sched_setaffinity(0, {int(cpu)})


# What runs in the end


def prepare_program(interpreter: WarmInterpreter, job: Job) -> Callable[[], object]:
    """Set up ``sys`` and ``__main__`` as the interpreter does for this command line; return the call to make.

    Its caller is the first line of ``__main__``, so no frame of this file stands below the command.
    """
    kind, target = job["program"]
    sys.argv[:] = job["argv"]
    if hasattr(sys, "orig_argv"):  # since Python 3.10
        sys.orig_argv[:] = job["words"]
    interpreter.set_first_path(job["path"])
    main = sys.modules["__main__"]
    if kind == "file":
        target = os.path.join(job["cwd"], target[2:] if target.startswith("./") else target)
    loader = SourceFileLoader("__main__", target) if kind == "file" else BuiltinImporter
    blank = {
        "__name__": "__main__",
        "__doc__": None,
        "__package__": None,
        "__loader__": loader,
        "__spec__": None,
    }
    kept = {
        name: main.__dict__[name] for name in ("__annotations__", "__builtins__") if name in main.__dict__
    }
    main.__dict__.clear()
    main.__dict__.update(blank, **kept)
    if "__annotations__" in kept:
        kept["__annotations__"].clear()
    if kind == "module":
        sys.modules.pop(target, None)  # a cold start has not imported it, and warns if it has
        return functools.partial(runpy._run_module_as_main, target)  # type: ignore[attr-defined]  # noqa: SLF001
    if kind == "command":
        return functools.partial(exec, compile(target, "<string>", "exec", dont_inherit=True), main.__dict__)
    main.__dict__.update(__file__=target, __cached__=None)
    with open(target, "rb") as file:
        code = compile(file.read(), target, "exec", dont_inherit=True)
    return functools.partial(exec, code, main.__dict__)
