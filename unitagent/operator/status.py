"""``unitagent status`` for a person: the same as ``/status``, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unitagent.legible import line, within
from unitagent.operator.history.since import stamp


def table(seen: dict[str, Any], output: Sequence[str] = (), beat_due: float = float("inf")) -> str:
    """What has been seen of the Unit, and the last output of the workload that failed.

    A rank whose last heartbeat is older than ``beat_due`` seconds is silent; while the store is away, all
    would be.
    """
    seen = within(seen)
    ready = "ready" if seen["ready"] else "not ready"
    head = f"Unit {seen['unit']}: {seen['phase']}, generation {seen['generation']}, {ready}"
    lines = [head, f"{'rank':>4}  {'state':<9} {'address':<16} {'host':<20} {'gen':>4} {'lease':>7}"]
    due = beat_due if seen["store"]["connected"] else float("inf")
    lines += [_row(one) + _silence(one, due) for one in seen["instances"]]
    lines += [_untrue(one) for one in seen.get("conditions", ()) if one["status"] != "True"]
    lines += _secrets(seen.get("secrets"))
    if seen["failure"]:
        lines.append(f"last failure: {seen['failure']['detail']}")
    lines += [f"  | {line(said)}" for said in output]
    return "\n".join(lines)


def _untrue(condition: dict[str, Any]) -> str:
    """What is not as it should be, since when, and what happens next."""
    since = condition["since"]
    return condition["message"] if since is None else f"since {stamp(since)}: {condition['message']}"


def _secrets(told: dict[str, Any] | None) -> list[str]:
    """How far a change of the secret has come; nothing when there is none."""
    if told is None or (told["accepted"] == 1 and told["differing"] == []):
        return []
    others = told["differing"]
    ranks = "not known yet whether all ranks have" if others is None else "all ranks have"
    if others:
        named, verb = ("ranks", "do") if len(others) > 1 else ("rank", "does")
        ranks = f"{named} {', '.join(map(str, others))} {verb} not have"
    return [f"secrets accepted: {told['accepted']}; {ranks} exactly these"]


def _silence(one: dict[str, Any], due: float) -> str:
    """Say that a heartbeat is missing: the state is what the rank said last, and it may be dead by now."""
    over = one["state"] in ("exited", "waiting")  # who has left beats no more
    age = one["lease_seconds"]
    return "" if over or age is None or age <= due else f"  silent for {age:.0f} s"


def _row(one: dict[str, Any]) -> str:
    age = one["lease_seconds"]
    lease = "-" if age is None else f"{age:.1f}s"
    ip, host = one["ip"] or "-", (one["hostname"] or "-")[:20]
    return f"{one['rank']:>4}  {one['state']:<9} {ip:<16} {host:<20} {one['generation']:>4} {lease:>7}"
