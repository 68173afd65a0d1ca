"""Writes down all that a process can see of itself, and the same of a child that it spawns.

It runs under every Python that a gate does, so it imports little and holds to Python 3.9.
"""

# ruff: noqa: PTH109, PTH110, PTH115, PTH118, PTH123, PTH208

from __future__ import annotations

import ctypes
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import stat
import sys
import threading
import warnings
from typing import Any

FOLDER = sys.argv[1]
BIRTH = threading.active_count(), sys.path[:1]


def describe_descriptor(number: int) -> list[Any]:
    found = os.fstat(number)
    return [stat.S_IFMT(found.st_mode), os.isatty(number), os.get_inheritable(number)]


def read(what: str) -> str:
    with open(f"/proc/self/{what}", errors="replace") as file:
        return file.read()


def see() -> dict[str, Any]:
    """What must not depend on how the process was started."""
    main = sys.modules["__main__"]
    status = dict(line.split(":", 1) for line in read("status").splitlines())
    watched = (
        "Umask",
        "Threads",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Uid",
        "Gid",
        "CapEff",
        "NoNewPrivs",
        "Seccomp",
    )
    numbers = sorted(n for n in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{n}"))
    pdeath = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(pdeath))
    reaper = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(reaper))
    return {
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "flags": str(sys.flags),
        "executable": sys.executable,
        "path": sys.path,
        "first_path": BIRTH[1],
        "threads": BIRTH[0],
        "main": {
            name: repr(value).partition(" at 0x")[0]
            for name, value in sorted(vars(main).items())
            if name.startswith("__") and name != "__builtins__"
        },
        "builtins": type(vars(main)["__builtins__"]).__name__,
        "environ": dict(os.environ),
        "environ_shown": sorted(filter(None, read("environ").split("\0"))),
        "cmdline": read("cmdline"),
        "comm": read("comm"),
        "cwd": os.getcwd(),
        "status": {name: status[name].split() for name in watched if name in status},
        "limits": [resource.getrlimit(n) for n in range(16)],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "session": os.getsid(0),
        "leads": os.getpgrp() == os.getpid(),
        "descriptors": {
            n: describe_descriptor(n)
            for n in numbers
            if n < 900 and "/fd" not in os.readlink(f"/proc/self/fd/{n}")
        },
        "streams": [
            [s.encoding, s.errors, s.line_buffering, s.seekable()]
            for s in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "signals": {int(n): str(signal.getsignal(n)) for n in signal.valid_signals()},
        "pdeath": pdeath.value,
        "subreaper": reaper.value,
        "level": logging.root.level,
        "filters": len(warnings.filters),
        "process": multiprocessing.current_process().name,
        "daemon": multiprocessing.current_process().daemon,
    }


def see_random() -> list[Any]:
    """What must differ from process to process."""
    return [random.random(), os.urandom(4).hex(), multiprocessing.current_process().authkey.hex()]


def report(queue: Any) -> None:
    queue.put({**see(), "parent": os.getppid()})


def change() -> None:
    """Change what a child inherits."""
    os.environ["CHANGED"] = "\udcff=1"
    os.environ.pop("HOME", None)
    os.chdir("/usr")
    os.umask(0o77)
    os.nice(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def main() -> None:
    before = see()
    try:
        waited = str(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        waited = "no child"
    change()
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=report, args=(queue,))
    child.start()
    seen = queue.get()
    seen["is_child"] = seen.pop("parent") == os.getpid()
    child.join()
    found = {
        "main": before,
        "children": waited,
        "child": seen,
        "child_exit": child.exitcode,
        "random": see_random(),
    }
    with open(os.path.join(FOLDER, f"{os.getpid()}.json"), "w") as file:
        json.dump(found, file, indent=1, default=str)


if __name__ == "__main__":
    main()
    sys.exit(3)
