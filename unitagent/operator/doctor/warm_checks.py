"""What the doctor makes of a command that is to start warm (``UNIT_WARM``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unitagent.operator.doctor.findings import Finding, ok, warn

_CHECK = "warm"
_OLDEST = (3, 9)
_REMEDY = "see unitagent/workload/README.md, or unset UNIT_WARM"


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What was found out about the starts of one command.

    Attributes:
        interpreter: that it runs.
        version: of that Python.
        modules: what a gate imports.
        absent: those of them that are not installed.
        hooks: files of the interpreter that may make more modules importable.
        kernel: why the kernel allows no warm start; empty if it does.
        shows_environment: whether ``/proc/PID/environ`` can be right.

    """

    interpreter: str
    version: tuple[int, ...]
    modules: Sequence[str]
    absent: Collection[str]
    hooks: Sequence[str]
    kernel: str
    shows_environment: bool


def judge_no_command(mode: str) -> Finding:
    """Judge ``UNIT_WARM`` without a command."""
    remedy = "run `unitagent doctor -- COMMAND [ARG...]`"
    return warn(_CHECK, f"UNIT_WARM={mode}: whether COMMAND can start warm is not known", remedy)


def judge_cold(why: str) -> Finding:
    """Judge a command that cannot start warm."""
    return warn(_CHECK, f"each start is cold: {why}", _REMEDY)


def judge_warm(found: WarmStart) -> Finding:
    """Judge whether a command would start warm."""
    version = ".".join(map(str, found.version))
    if found.version < _OLDEST:
        return judge_cold(f"{found.interpreter} is Python {version}, which is too old")
    if found.kernel:
        return judge_cold(found.kernel)
    absent = ", ".join(found.absent)
    if len(found.absent) == len(found.modules) and not found.hooks:
        remedy = "correct UNIT_WARM_MODULES, or install them for that interpreter"
        return warn(_CHECK, f"each start is cold: {found.interpreter} does not find {absent}", remedy)
    detail = f"starts can come from {found.interpreter} (Python {version}) with {len(found.modules)} modules"
    if absent:
        detail += f", without {absent}"
        detail += f" (unless {', '.join(dict.fromkeys(found.hooks))} provides them)" if found.hooks else ""
    detail += "" if found.shows_environment else "; /proc/PID/environ will show the environment of the gate"
    return ok(_CHECK, f"{detail}; whether they can be shared is known once they are imported")
