"""Protects this process from other processes of the same user, such as the workload.

The invariant: this is defence in depth. If the kernel refuses, the agent works as before.
"""

from __future__ import annotations

import ctypes
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
