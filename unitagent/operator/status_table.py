"""``unitagent status`` for a person: the same as ``/status``, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unitagent.core.model import format_ranks
from unitagent.operator.history.event_text import format_time
from unitagent.system.safe_output import escape_json_value, escape_line


def format_table(status: dict[str, Any], output: Sequence[str] = (), beat_due: float = float("inf")) -> str:
    """Format the Unit's status, and the last output of the workload that failed.

    A rank whose last heartbeat is older than ``beat_due`` seconds is marked as silent, unless the store is
    unreachable.
    """
    status = escape_json_value(status)
    ready = "ready" if status["ready"] else "not ready"
    head = f"Unit {status['unit']}: {status['phase']}, generation {status['generation']}, {ready}"
    lines = [head, f"{'rank':>4}  {'state':<9} {'address':<16} {'host':<20} {'gen':>4} {'lease':>7}"]
    due = beat_due if status["store"]["connected"] else float("inf")
    lines += [_format_row(one) + _describe_silence(one, due) for one in status["instances"]]
    lines += [_format_condition(one) for one in status.get("conditions", ()) if one["status"] != "True"]
    lines += _format_secrets(status.get("secrets"))
    lines += [f"warm files: this instance {files['message']}"] if (files := status.get("warm_files")) else []
    if status["failure"]:
        lines.append(f"last failure: {status['failure']['detail']}")
    lines += [f"  | {escape_line(line)}" for line in output]
    return "\n".join(lines)


def _format_condition(condition: dict[str, Any]) -> str:
    """Format a false condition: since when, what is wrong and what happens next."""
    since = condition["since"]
    return condition["message"] if since is None else f"since {format_time(since)}: {condition['message']}"


def _format_secrets(secrets: dict[str, Any] | None) -> list[str]:
    """Format the progress of a change of the secret; nothing if none is under way."""
    if secrets is None or (secrets["accepted"] == 1 and secrets["differing"] == []):
        return []
    strangers = secrets.get("strangers", [])
    text = _describe_differing(secrets["differing"], strangers)
    return [
        f"secrets accepted: {secrets['accepted']}; {clause}"
        for clause in (text, _describe_strangers(strangers))
        if clause
    ]


def _describe_differing(others: list[int] | None, strangers: list[int]) -> str:
    """Describe which ranks are at another step of the change."""
    if others is None:
        return "whether all ranks have the same secrets is not known yet"
    between = [rank for rank in others if rank not in strangers]
    if not others:
        return "all ranks have the same secrets"
    return (
        f"{format_ranks(between)} {'have' if len(between) > 1 else 'has'} different secrets"
        if between
        else ""
    )


def _describe_strangers(strangers: list[int]) -> str:
    """Describe which ranks share no secret with this one, because a step came too early."""
    if not strangers:
        return ""
    have = "have" if len(strangers) > 1 else "has"
    return (
        f"{format_ranks(strangers)} {have} none of these secrets and cannot join the next barrier; "
        "add the missing secrets to UNIT_SECRET_FILE until every rank has all of them"
    )


def _describe_silence(one: dict[str, Any], due: float) -> str:
    """Mark a missing heartbeat: the state is the rank's last one, and the rank may be dead by now."""
    over = one["state"] in ("exited", "waiting")  # a rank that has left sends no heartbeats
    age = one["lease_seconds"]
    return "" if over or age is None or age <= due else f"  silent for {age:.0f} s"


def _format_row(one: dict[str, Any]) -> str:
    age = one["lease_seconds"]
    lease = "-" if age is None else f"{age:.1f}s"
    ip, host = one["ip"] or "-", (one["hostname"] or "-")[:20]
    return f"{one['rank']:>4}  {one['state']:<9} {ip:<16} {host:<20} {one['generation']:>4} {lease:>7}"
