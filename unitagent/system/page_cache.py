"""Files in the kernel's page cache: how much of one is there, and how to bring it there.

Nothing of a file is copied into this process: ``sendfile`` hands its pages to ``/dev/null``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

_CACHESTAT = 451  # system call on every architecture since Linux 6.5, see cachestat(2)
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_THIS_THREAD = (1, 0)  # IOPRIO_WHO_PROCESS, and the caller
_IDLE = 3 << 13  # IOPRIO_CLASS_IDLE

_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def count_resident(descriptor: int, size: int) -> int:
    """Count the bytes of an open file that are in the page cache.

    Raises:
        OSError: the file system cannot tell.

    """
    found = _Stat()
    whole = _Range(0, 0)  # a length of 0: up to the end
    if _libc.syscall(_CACHESTAT, descriptor, ctypes.byref(whole), ctypes.byref(found), 0) == 0:
        return min(size, int(found.cache) * mmap.PAGESIZE)
    if ctypes.get_errno() != errno.ENOSYS:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return _count_mapped(descriptor, size)


def _count_mapped(descriptor: int, size: int) -> int:
    """Count with mincore(2), which needs a mapping, on kernels before 6.5."""
    if not size:
        return 0
    _libc.mmap.restype = ctypes.c_void_p
    _libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_int64)
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        pages = ctypes.create_string_buffer((size + mmap.PAGESIZE - 1) // mmap.PAGESIZE)
        if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return min(size, mmap.PAGESIZE * sum(page & 1 for page in pages.raw))
    finally:
        _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


def load_range(source: int, sink: int, offset: int, length: int) -> int:
    """Read a part of an open file into the page cache, and return how many bytes it has there. Blocks.

    Raises:
        OSError: it cannot be read.

    """
    end = offset + length
    while offset < end and (count := os.sendfile(sink, source, offset, end - offset)):
        offset += count
    return length - (end - offset)


def yield_disk() -> None:
    """Let this thread read only when nobody else does, where the disk's scheduler knows priorities (BFQ)."""
    if number := _IOPRIO_SET.get(os.uname().machine):
        _libc.syscall(number, *_THIS_THREAD, _IDLE)
