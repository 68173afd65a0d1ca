"""Settings of the memory allocator and of Python's garbage collector.

One heap for all threads: glibc gives threads separate heaps as soon as two of them allocate at once, and
keeps their peak size (2 to 4 MiB here). An agent has many short-lived threads that allocate little: one
heap is as fast, and stays small.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

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
