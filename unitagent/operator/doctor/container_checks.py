"""What the container was given: resource limits, RDMA devices, GPUs, its PID 1 and its stop grace."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unitagent.operator.doctor.findings import Finding, fail, ok, warn

_SHM = "/dev/shm"  # noqa: S108 (it is looked at, not written to)
_MIB = 2**20
_LEAST_SHM = 1024 * _MIB
_LEAST_FILES = 65535  # what vLLM raises its own limit to, and what Ray asks for
UNLIMITED = resource.RLIM_INFINITY
_SHELLS = ("sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "tail", "sleep")
# Seconds between SIGTERM and SIGKILL that an engine gives when it is not told otherwise.
_PATIENCE = {"Kubernetes": 30.0, "Docker": 10.0, "Podman": 10.0}


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


@dataclass(frozen=True, slots=True)
class RdmaDevices:
    """What was found.

    Attributes:
        names: of all devices that the kernel shows.
        own: the port that belongs to our card, as a person reads it; empty for none.
        gids: its GID table, an entry each: index, kind and GID.
        problems: why it cannot be used; empty when it can.

    """

    names: Sequence[str]
    own: str = ""
    gids: Sequence[str] = ()
    problems: Sequence[str] = ()


def judge_rdma(devices: RdmaDevices, ifname: str, *, wanted: bool) -> Iterator[Finding]:
    """Judge them; a machine without RDMA, where nobody asked for it, has nothing to say."""
    without = "all traffic between ranks goes over TCP"
    table = f"; GIDs: {', '.join(devices.gids)}" if devices.gids else ""
    if devices.own and not devices.problems:
        yield ok("rdma", f"{devices.own} belongs to {ifname} and can be used{table}")
    elif devices.own:
        remedy = (
            "docker run --device=/dev/infiniband, or the RDMA device plugin in Kubernetes; check the link"
        )
        yield warn("rdma", f"{devices.own} belongs to {ifname}: {'; '.join(devices.problems)}{table}", remedy)
    elif wanted:
        seen = ", ".join(devices.names) or "none at all"
        said = f"UNIT_RDMA=auto, but no RDMA device belongs to {ifname} (there is {seen}): {without}"
        yield warn("rdma", said, "set COMM_IFNAME to the RDMA interface, or UNIT_RDMA=off")
    elif devices.names:
        yield ok("rdma", f"no device belongs to {ifname} (there is {', '.join(devices.names)}): {without}")


def judge_gpus(gpus: int, holders: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    """Judge who holds GPUs beside the workload of an agent; a machine without GPUs has nothing to say.

    Args:
        gpus: how many devices there are.
        holders: pid, name and device of each who can be seen to hold one.

    """
    if holders:
        told = ", ".join(f"{device} by process {pid} ({name})" for pid, name, device in holders)
        remedy = (
            "end them (`kill PID`), or give this container GPUs of its own: an engine wants all of the memory"
        )
        yield warn("gpus", f"held: {told}", remedy)
    elif gpus:
        yield ok("gpus", f"none of the {gpus} is held by a process that can be seen here and is no workload")


def judge_init(pid: int, first: str, *, subreaper: bool) -> Finding:
    """Judge whether SIGTERM reaches an agent here, and orphans too.

    Args:
        pid: of this process, which stands where the agent would.
        first: name of the process with PID 1; empty when it cannot be seen.
        subreaper: whether the kernel agreed to give us orphans.

    """
    if pid == 1:
        return ok("init", "this is PID 1")
    if not subreaper:
        said = "the kernel gives us no orphans (prctl PR_SET_CHILD_SUBREAPER is refused)"
        return fail("init", said, "make unitagent the ENTRYPOINT, or permit prctl in the seccomp profile")
    if first in _SHELLS:
        said = f"PID 1 is {first}, which passes no SIGTERM on to an agent below it"
        remedy = 'ENTRYPOINT ["unitagent", "run", "--"] in exec form, or `exec unitagent run` in the script'
        return warn("init", said, remedy)
    return ok("init", f"PID 1 is {first or 'out of sight'}; an agent here would be a subreaper")


def detect_engine(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """Name the engine that runs this container; empty when that cannot be told."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if (root / ".dockerenv").exists():
        return "Docker"
    return "Podman" if (root / "run/.containerenv").exists() else ""


def judge_grace(grace: float, source: str, runtime: str) -> Finding:
    """Judge the stop grace; the container's own cannot be seen from inside, only what is usual.

    Args:
        grace: UNIT_STOP_GRACE_SECONDS.
        source: who gave it.
        runtime: the engine's name, as :func:`engine` gives it.

    """
    said = f"a stop takes up to {grace:g} s (UNIT_STOP_GRACE_SECONDS)"
    if source.startswith("service file"):
        return ok("grace", f"{said}, as the service file's grace period allows")
    usual = _PATIENCE.get(runtime)
    if usual is None:
        return ok("grace", f"{said}; whoever stops this container has to wait longer than that")
    if grace < usual:
        return ok("grace", f"{said}; {runtime} waits {usual:g} s unless told otherwise")
    remedy = (
        f"give the container {grace + 5:g} s: docker run --stop-timeout, stop_grace_period in Compose, "
        "terminationGracePeriodSeconds in Kubernetes; or set UNIT_STOP_GRACE_SECONDS lower"
    )
    return warn("grace", f"{said}, but {runtime} waits {usual:g} s unless told otherwise", remedy)
