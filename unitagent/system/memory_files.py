"""Bytes for a child process, behind a descriptor and on no disk: a pipe would block when it is full."""

from __future__ import annotations

import os


def open_memory_file(name: str, data: bytes) -> int:
    """Return a descriptor that reads ``data``; ``name`` is what ``/proc`` shows. The caller closes it."""
    handle = os.memfd_create(name)
    with open(handle, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle
