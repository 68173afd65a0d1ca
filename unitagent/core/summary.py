"""The one important thing about a Unit, in a line: whether it serves, and if not, why and since when.

It is made from the other keys of ``/status`` alone, so the page, ``unitagent status`` and ``/status`` say
the same, whether an agent or the store was asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unitagent.core.conditions import LOADING
from unitagent.core.model import format_age

GOOD, BUSY, BAD, OFF = "good", "busy", "bad", "off"

_SEVERITIES = {
    "failed": BAD,
    "silent": BAD,
    "drained": OFF,
    "completed": OFF,
}


def summarize(status: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The summary of a status: ``severity``, ``message`` and ``details``.

    Args:
        status: Its keys are those of ``/status``.
        now: Seconds since the epoch.

    """
    conditions = (one for one in status.get("conditions", ()) if one["type"] == "Ready")
    ready = next(
        conditions, {"reason": "", "message": "", "since": None}
    )  # agents of earlier versions have none
    return {
        "severity": _rate_severity(status),
        "message": _describe_status(status, ready, now),
        "details": list(_list_details(status)),
    }


def _rate_severity(status: Mapping[str, Any]) -> str:
    if status["phase"] in _SEVERITIES:
        return _SEVERITIES[status["phase"]]
    if status["ready"]:
        return BUSY if status.get("pause") else GOOD
    lost = any(one["state"] == "lost" for one in status["instances"])
    return BAD if lost else BUSY


def _describe_status(status: Mapping[str, Any], ready: Mapping[str, Any], now: float) -> str:
    """The line, and in a pause of restarts, which nobody may overlook, how long that goes on."""
    line, pause = _describe_phase(status, ready, now), status.get("pause")
    if not pause:
        return line
    if "restarts are paused" in line:  # by an agent that waits for its end: nothing runs, and nothing starts
        return f"{line.replace('restarting', 'stopped', 1)}; `unitagent resume` starts it"
    origin = f"asked by {pause['by'] or 'an operator'}: {pause['reason'] or 'no reason given'}"
    return f"{line}; restarts are paused for {format_age(pause['until'] - now)} more, {origin}"


def _describe_phase(status: Mapping[str, Any], ready: Mapping[str, Any], now: float) -> str:
    phase = status["phase"]
    age = "" if ready["since"] is None else f" for {format_age(now - ready['since'])}"
    if status["ready"]:
        return f"ready{age}"
    if phase in ("completed", "drained"):
        return f"{phase}{age.replace(' for', '', 1)}{' ago' if age else ''}"
    if phase == "draining":
        return f"{ready['message']}{age}"
    if phase == "running":
        begin = f"loading{age}, waiting for " if ready["reason"] == LOADING else f"not ready{age}: "
        return begin + str(ready["message"])
    return f"{phase}{age}: {ready['message']}"


def _list_details(status: Mapping[str, Any]) -> Iterator[str]:
    yield f"generation {status['generation']}"
    budget: dict[str, Any] = status.get("budget") or {"allowed": None, "next_restart_seconds": None}
    if budget["allowed"] is not None:
        window = format_age(budget["window_seconds"])
        yield f"{budget['used']:g} of {budget['allowed']:g} restarts in {window}"
    elif status["restarts"]:
        yield f"{status['restarts']} restart{'s' if status['restarts'] > 1 else ''}"
    if budget["next_restart_seconds"] is not None:
        yield f"next start in {format_age(budget['next_restart_seconds'])}"
    if status.get("endpoint"):
        yield f"rank 0 at {status['endpoint']}"
    elif status["master_address"]:
        yield f"rank 0 at {status['master_address']}"
