"""Who stands above an agent: PID 1, the kernel that hands over orphans, the engine and its patience."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unitagent.operator.doctor.findings import Finding, fail, ok, warn

_SHELLS = ("sh", "bash", "dash", "ash", "busybox", "zsh", "ksh", "tail", "sleep")
# Seconds between SIGTERM and SIGKILL that an engine gives when it is not told otherwise.
_PATIENCE = {"Kubernetes": 30.0, "Docker": 10.0, "Podman": 10.0}


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
