"""What the container runtime allows: shared memory, locked memory, open files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from unitagent.operator.doctor.findings import Finding, ok, warn

_SHM = "/dev/shm"  # noqa: S108 (it is looked at, not written to)
_MIB = 2**20
_LEAST_SHM = 1024 * _MIB
_LEAST_FILES = 65535  # what vLLM raises its own limit to, and what Ray asks for
UNLIMITED = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Limits:
    """What was found.

    Attributes:
        shm: bytes that ``/dev/shm`` has free; None when there is none that we may write to.
        memlock: bytes that a process may lock.
        files: open files a process may have, now and at most.

    """

    shm: int | None
    memlock: int
    files: tuple[int, int]


def read_limits() -> Limits:
    """Read this process's limits, which a workload inherits."""
    memlock, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Limits(_free_shm(), memlock, resource.getrlimit(resource.RLIMIT_NOFILE))


def _free_shm() -> int | None:
    try:
        seen = os.statvfs(_SHM)
    except OSError:
        return None
    return seen.f_bavail * seen.f_frsize if os.access(_SHM, os.W_OK) else None


def judge_limits(limits: Limits, *, rdma: bool) -> Iterator[Finding]:
    """Judge the limits; locked memory matters only where there is RDMA."""
    yield _judge_shm(limits.shm)
    yield _judge_memlock(limits.memlock, rdma=rdma)
    yield _judge_files(*limits.files)


def _judge_shm(free: int | None) -> Finding:
    remedy = (
        "docker run --shm-size=16g, shm_size in Compose, or in Kubernetes an emptyDir with medium: Memory "
        "mounted at /dev/shm"
    )
    if free is None:
        return warn(
            "shm", "there is no /dev/shm to write to, and NCCL and PyTorch share memory there", remedy
        )
    if free < _LEAST_SHM:
        why = "NCCL and PyTorch end with SIGBUS or ENOSPC when it is full"
        return warn("shm", f"{_SHM} has {free // _MIB} MiB free, less than 1 GiB: {why}", remedy)
    return ok("shm", f"{_SHM} has {free // _MIB} MiB free")


def _judge_memlock(memlock: int, *, rdma: bool) -> Finding:
    if memlock == UNLIMITED:
        return ok("memlock", "locked memory is not limited")
    said = f"locked memory is limited to {memlock // 1024} KiB"
    if not rdma:
        return ok("memlock", f"{said}, which matters for RDMA only")
    return warn("memlock", f"{said}: RDMA cannot register its buffers", "docker run --ulimit memlock=-1")


def _judge_files(now: int, most: int) -> Finding:
    if now == UNLIMITED or now >= _LEAST_FILES:
        return ok("nofile", "enough files may be open")
    if most == UNLIMITED or most >= _LEAST_FILES:
        return ok("nofile", f"{now} files may be open; a process may raise that, and vLLM and Ray do")
    return warn(
        "nofile",
        f"{now} files may be open, {most} at most: too few for vLLM or Ray with many requests",
        f"docker run --ulimit nofile={_LEAST_FILES + 1}:{_LEAST_FILES + 1}",
    )
