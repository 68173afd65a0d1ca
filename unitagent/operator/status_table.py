"""``unitagent status`` for a person: the same as ``/status``, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unitagent.core.model import ranks
from unitagent.legible import line, within
from unitagent.operator.history.event_text import format_time


def format_table(seen: dict[str, Any], output: Sequence[str] = (), beat_due: float = float("inf")) -> str:
    """What has been seen of the Unit, and the last output of the workload that failed.

    A rank whose last heartbeat is older than ``beat_due`` seconds is silent; while the store is away, all
    would be.
    """
    seen = within(seen)
    ready = "ready" if seen["ready"] else "not ready"
    head = f"Unit {seen['unit']}: {seen['phase']}, generation {seen['generation']}, {ready}"
    lines = [head, f"{'rank':>4}  {'state':<9} {'address':<16} {'host':<20} {'gen':>4} {'lease':>7}"]
    due = beat_due if seen["store"]["connected"] else float("inf")
    lines += [_format_row(one) + _describe_silence(one, due) for one in seen["instances"]]
    lines += [_format_condition(one) for one in seen.get("conditions", ()) if one["status"] != "True"]
    lines += _format_secrets(seen.get("secrets"))
    if seen["failure"]:
        lines.append(f"last failure: {seen['failure']['detail']}")
    lines += [f"  | {line(said)}" for said in output]
    return "\n".join(lines)


def _format_condition(condition: dict[str, Any]) -> str:
    """What is not as it should be, since when, and what happens next."""
    since = condition["since"]
    return condition["message"] if since is None else f"since {format_time(since)}: {condition['message']}"


def _format_secrets(told: dict[str, Any] | None) -> list[str]:
    """How far a change of the secret has come; nothing when there is none."""
    if told is None or (told["accepted"] == 1 and told["differing"] == []):
        return []
    strangers = told.get("strangers", [])
    said = _describe_differing(told["differing"], strangers)
    return [
        f"secrets accepted: {told['accepted']}; {clause}"
        for clause in (said, _describe_strangers(strangers))
        if clause
    ]


def _describe_differing(others: list[int] | None, strangers: list[int]) -> str:
    """Which ranks are at another step of the change."""
    if others is None:
        return "not known yet whether all ranks have exactly these"
    between = [rank for rank in others if rank not in strangers]
    if not others:
        return "all ranks have exactly these"
    return (
        f"{ranks(between)} {'do' if len(between) > 1 else 'does'} not have exactly these" if between else ""
    )


def _describe_strangers(strangers: list[int]) -> str:
    """Which ranks were left behind, or went ahead, by a step that came too early."""
    if not strangers:
        return ""
    have = "have" if len(strangers) > 1 else "has"
    return (
        f"{ranks(strangers)} {have} none of these: they and whoever was asked will not meet at the next "
        "barrier; add the missing secrets to UNIT_SECRET_FILE until all ranks have all"
    )


def _describe_silence(one: dict[str, Any], due: float) -> str:
    """Say that a heartbeat is missing: the state is what the rank said last, and it may be dead by now."""
    over = one["state"] in ("exited", "waiting")  # who has left beats no more
    age = one["lease_seconds"]
    return "" if over or age is None or age <= due else f"  silent for {age:.0f} s"


def _format_row(one: dict[str, Any]) -> str:
    age = one["lease_seconds"]
    lease = "-" if age is None else f"{age:.1f}s"
    ip, host = one["ip"] or "-", (one["hostname"] or "-")[:20]
    return f"{one['rank']:>4}  {one['state']:<9} {ip:<16} {host:<20} {one['generation']:>4} {lease:>7}"
