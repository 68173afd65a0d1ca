"""What the container was given: resource limits, RDMA devices, GPUs, its PID 1 and its stop grace."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unitagent.operator.doctor.findings import Finding, fail, ok, warn

_SHM = "/dev/shm"  # noqa: S108 (only read)
_MIB = 2**20
_LEAST_SHM = 1024 * _MIB
_LEAST_FILES = 65535  # vLLM raises its own limit to this; Ray requests it
UNLIMITED = resource.RLIM_INFINITY
_SHELLS = ("sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "tail", "sleep")
# Each engine's default number of seconds from SIGTERM to SIGKILL.
_PATIENCE = {"Kubernetes": 30.0, "Docker": 10.0, "Podman": 10.0}


@dataclass(frozen=True, slots=True)
class Limits:
    """What was found.

    Attributes:
        shm: free bytes in ``/dev/shm``; None if it is missing or read-only.
        memlock: bytes of memory that a process may lock.
        files: soft and hard limit of open files.

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


def judge_limits(limits: Limits, *, rdma: bool, agent_files: int = 0) -> Iterator[Finding]:
    """Judge the limits; locked memory only matters with RDMA. The agent itself may open ``agent_files``."""
    yield _judge_shm(limits.shm)
    yield _judge_memlock(limits.memlock, rdma=rdma)
    yield _judge_files(*limits.files, agent_files)


def _judge_shm(free: int | None) -> Finding:
    remedy = (
        "docker run --shm-size=16g, shm_size in Compose, or in Kubernetes an emptyDir with medium: Memory "
        "mounted at /dev/shm"
    )
    if free is None:
        why = "NCCL and PyTorch share memory there"
        return warn("shm", f"{_SHM} is missing or read-only: {why}", remedy)
    if free < _LEAST_SHM:
        why = "NCCL and PyTorch crash with SIGBUS or ENOSPC when it is full"
        return warn("shm", f"{_SHM} has {free // _MIB} MiB free, less than 1 GiB: {why}", remedy)
    return ok("shm", f"{_SHM} has {free // _MIB} MiB free")


def _judge_memlock(memlock: int, *, rdma: bool) -> Finding:
    if memlock == UNLIMITED:
        return ok("memlock", "locked memory is not limited")
    detail = f"locked memory is limited to {memlock // 1024} KiB"
    if not rdma:
        return ok("memlock", f"{detail}, which matters for RDMA only")
    return warn("memlock", f"{detail}: RDMA cannot register its buffers", "docker run --ulimit memlock=-1")


def _judge_files(now: int, most: int, agent_files: int) -> Finding:
    raised = f"docker run --ulimit nofile={_LEAST_FILES + 1}:{_LEAST_FILES + 1}"
    if now != UNLIMITED and now < agent_files:
        too_few = f"too low for the agent of a Unit of this size, which may open {agent_files}"
        return warn("nofile", f"the limit of open files is {now}: {too_few}", raised)
    if now == UNLIMITED or now >= _LEAST_FILES:
        return ok("nofile", "the limit of open files is high enough")
    if most == UNLIMITED or most >= _LEAST_FILES:
        return ok("nofile", f"the limit of open files is {now}; a process may raise it, and vLLM and Ray do")
    return warn(
        "nofile",
        f"the limit of open files is {now} ({most} at most): too low for vLLM or Ray under load",
        raised,
    )


@dataclass(frozen=True, slots=True)
class RdmaDevices:
    """The RDMA devices of this machine.

    Attributes:
        names: of all devices that the kernel shows.
        own: the port of our interface, for people; empty for none.
        gids: its GID table; each entry has index, kind and GID.
        problems: why it is unusable; empty if it is usable.

    """

    names: Sequence[str]
    own: str = ""
    gids: Sequence[str] = ()
    problems: Sequence[str] = ()


def judge_rdma(devices: RdmaDevices, ifname: str, *, wanted: bool) -> Iterator[Finding]:
    """Judge the devices; without RDMA devices and without UNIT_RDMA=auto there is no finding."""
    without = "all traffic between ranks goes over TCP"
    table = f"; GIDs: {', '.join(devices.gids)}" if devices.gids else ""
    if devices.own and not devices.problems:
        yield ok("rdma", f"{devices.own} belongs to {ifname} and is usable{table}")
    elif devices.own:
        remedy = (
            "docker run --device=/dev/infiniband, or the RDMA device plugin in Kubernetes; check the link"
        )
        yield warn("rdma", f"{devices.own} belongs to {ifname}: {'; '.join(devices.problems)}{table}", remedy)
    elif wanted:
        seen = ", ".join(devices.names) or "none at all"
        detail = f"UNIT_RDMA=auto, but no RDMA device belongs to {ifname} (there is {seen}): {without}"
        yield warn("rdma", detail, "set COMM_IFNAME to the RDMA interface, or UNIT_RDMA=off")
    elif devices.names:
        yield ok("rdma", f"no device belongs to {ifname} (there is {', '.join(devices.names)}): {without}")


def judge_gpus(gpus: int, holders: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    """Judge which processes hold GPUs besides an agent's workload; without GPUs there is no finding.

    Args:
        gpus: number of devices.
        holders: pid, name and device of each visible process that holds one.

    """
    if holders:
        detail = ", ".join(f"{device} by process {pid} ({name})" for pid, name, device in holders)
        remedy = (
            "stop them (`kill PID`), or give this container other GPUs: an engine needs all of their memory"
        )
        yield warn("gpus", f"in use: {detail}", remedy)
    elif gpus:
        yield ok("gpus", f"no other visible process uses any of the {gpus}")


def judge_init(pid: int, first: str, *, subreaper: bool) -> Finding:
    """Judge whether an agent here receives SIGTERM and adopts orphans.

    Args:
        pid: of this process, which stands in for the agent.
        first: name of the process with PID 1; empty if it is not visible.
        subreaper: whether the kernel makes us the parent of orphans.

    """
    if pid == 1:
        return ok("init", "this is PID 1")
    if not subreaper:
        detail = "orphans do not become our children (prctl PR_SET_CHILD_SUBREAPER is refused)"
        return fail("init", detail, "make unitagent the ENTRYPOINT, or allow prctl in the seccomp profile")
    if first in _SHELLS:
        detail = f"PID 1 is {first}, which does not forward SIGTERM to an agent below it"
        remedy = 'ENTRYPOINT ["unitagent", "run", "--"] in exec form, or `exec unitagent run` in the script'
        return warn("init", detail, remedy)
    return ok("init", f"PID 1 is {first or 'not visible'}; an agent here would be a subreaper")


def detect_engine(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """Name the engine that runs this container; empty if unknown."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if (root / ".dockerenv").exists():
        return "Docker"
    return "Podman" if (root / "run/.containerenv").exists() else ""


def judge_caches(folder: str, origin: str, *, lost: bool) -> Finding:
    """Judge where an engine keeps the kernels and graphs that it compiled.

    Args:
        folder: where.
        origin: what says so.
        lost: it ends with the container.

    """
    where = f"compiled kernels and graphs are kept in {folder} ({origin})"
    if not lost:
        return ok("caches", where)
    remedy = "mount a volume and set UNIT_CACHE_DIR to a directory on it"
    return warn("caches", f"{where}, which ends with the container: a rebuilt one compiles again", remedy)


def judge_warm_files(problem: str, bypass: str) -> Finding:
    """Judge UNIT_WARM_FILES.

    Args:
        problem: why nothing can be read ahead; empty if it can.
        bypass: the word of COMMAND that makes its engine load past the page cache; empty if there is none.

    """
    if problem:
        return warn("warm files", f"nothing is read ahead: {problem}", "correct or unset UNIT_WARM_FILES")
    if bypass:
        detail = f"COMMAND has {bypass}: its engine does not load from the page cache"
        return warn("warm files", detail, f"unset UNIT_WARM_FILES, or take {bypass} out")
    return ok("warm files", "all of UNIT_WARM_FILES can be read ahead")


def judge_kept_files(count: int, problem: str) -> Finding:
    """Judge UNIT_KEEPER_FILES: how many there are, or why a change of them goes unnoticed."""
    if problem:
        detail = f"the keeper's files are not watched: {problem}"
        return warn("keeper files", detail, "correct UNIT_KEEPER_FILES")
    return ok("keeper files", f"when one of {count} files changes, the next restart loads them again")


def judge_grace(grace: float, source: str, runtime: str) -> Finding:
    """Judge the stop grace; the container's own is not visible from inside, so defaults are assumed.

    Args:
        grace: UNIT_STOP_GRACE_SECONDS.
        source: of its value.
        runtime: the engine's name, from :func:`detect_engine`.

    """
    detail = f"a stop takes up to {grace:g} s (UNIT_STOP_GRACE_SECONDS)"
    if source.startswith("service file"):
        return ok("grace", f"{detail}, as the service file's grace period allows")
    usual = _PATIENCE.get(runtime)
    if usual is None:
        return ok("grace", f"{detail}; the container's own grace must be longer")
    if grace < usual:
        return ok("grace", f"{detail}; {runtime} waits {usual:g} s by default")
    remedy = (
        f"give the container {grace + 5:g} s: docker run --stop-timeout, stop_grace_period in Compose, "
        "terminationGracePeriodSeconds in Kubernetes; or set UNIT_STOP_GRACE_SECONDS lower"
    )
    return warn("grace", f"{detail}, but {runtime} waits only {usual:g} s by default", remedy)
