"""What an agent does to its own process before all else: it hides from other processes of the same user, such
as the workload, and keeps its memory small.

The invariant: hiding is defence in depth. If the kernel refuses, the agent works as before.

One heap for all threads: glibc gives threads separate heaps as soon as two of them allocate at once, and
keeps their peak size (2 to 4 MiB here). An agent has many short-lived threads that allocate little: one
heap is as fast, and stays small.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def hide_process() -> None:
    """Deny others ``/proc/PID/environ``, ``fd``, ``mem`` and ptrace of this process; disable core dumps."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def erase_variables(*names: str) -> None:
    """Unset these variables, and overwrite them in the initial environment that the kernel shows."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    for name in names:
        if place := getenv(name.encode()):
            ctypes.memset(place, 0, len(ctypes.string_at(place)))
        os.environ.pop(name, None)


_M_ARENA_MAX = -8  # <malloc.h>


def limit_malloc_arenas() -> None:
    """Use one heap; call this before threads start. Does nothing with another libc than glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def defer_garbage_collection() -> None:
    """Turn the collector off during a start: it would run a hundred times over objects that stay anyway."""
    gc.disable()


def resume_garbage_collection() -> None:
    """Collect once, and from now on only among new objects."""
    gc.collect()
    gc.freeze()
    gc.enable()
