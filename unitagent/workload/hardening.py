"""Keeps this process from others of the same user, the workload among them.

The invariant: this is defence in depth. Where the kernel refuses, the agent works on as it did.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE = 4  # <linux/prctl.h>


def hide_process() -> None:
    """Close ``/proc/PID/environ``, ``fd`` and ``mem`` of this process, and ptrace; no core is dumped."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def erase_variables(*names: str) -> None:
    """Wipe these variables where the kernel shows a process's first environment, and unset them."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    for name in names:
        if place := getenv(name.encode()):
            ctypes.memset(place, 0, len(ctypes.string_at(place)))
        os.environ.pop(name, None)
