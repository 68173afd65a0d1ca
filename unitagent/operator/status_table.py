"""``unitagent status`` for people: the content of ``/status`` as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from unitagent.core.model import format_age, format_ranks
from unitagent.operator.history.event_text import format_time
from unitagent.operator.terminal import Column, Style, format_columns
from unitagent.system.safe_output import escape_json_value, escape_line

_COLUMNS = [
    Column("rank", right=True),
    Column("state"),
    Column("address", spare=1),
    Column("host", spare=2),
    Column("gen", right=True),
    Column("seen", right=True),
    Column(""),  # what is wrong with a rank
]
_STATE = 1  # the column that is coloured
_SEVERITIES = {"healthy": "good", "running": "good", "exited": "bad", "lost": "bad", "missing": "bad"}
_PRECISE = 100.0  # seconds; tenths of older signs of life tell nothing
_PLAIN = Style()


def format_table(
    status: dict[str, Any],
    output: Sequence[str] = (),
    beat_due: float = float("inf"),
    *,
    now: float = 0.0,
    style: Style = _PLAIN,
) -> str:
    """Format the Unit's status, and the last output of the workload that failed.

    A rank whose last heartbeat is older than ``beat_due`` seconds is marked as silent, unless the store is
    unreachable.
    """
    status = escape_json_value(status)
    summary = status["summary"]
    lines = style.wrap(f"Unit {status['unit']}: {summary['message']}", "", summary["severity"])
    lines += style.wrap(", ".join(summary["details"]), "  ") if summary["details"] else []
    due = beat_due if status["store"]["connected"] else float("inf")
    strangers = (status.get("secrets") or {}).get("strangers") or ()
    lines += _format_instances(status["instances"], strangers, due, style)
    for note in _list_notes(status, now):
        lines += style.wrap(note)
    lines += [f"  | {escape_line(line)}" for line in output]
    return "\n".join(lines)


def _list_notes(status: dict[str, Any], now: float) -> Iterator[str]:
    """Yield the sentences below the table."""
    if pause := status.get("pause"):
        yield f"restarts are paused until {format_time(pause['until'])}; `unitagent resume` ends the pause"
    yield from map(_format_condition, _select_conditions(status))
    yield from _format_secrets(status.get("secrets"))
    if files := status.get("warm_files"):
        yield f"warm files: this instance {files['message']}"
    yield from _format_message("spares", status.get("spares"))
    yield from _format_message("start", status.get("start"))
    yield from _format_message("engine", status.get("engine"))
    yield from _format_past("last ordered restart", status.get("last_order"), now)
    yield from _format_past("last failure", status["failure"], now)


def _format_instances(
    instances: Sequence[dict[str, Any]], strangers: Sequence[int], due: float, style: Style
) -> list[str]:
    states = ["missing" if one["incarnation"] is None else one["state"] for one in instances]
    rows = [_make_row(one, state, due) for one, state in zip(instances, states, strict=True)]
    for rank in (one for one in strangers if one < len(rows)):
        rows[rank][-1] = "has another UNIT_SECRET"

    def paint(row: int, column: int, text: str) -> str:
        return style.paint(text, _SEVERITIES.get(states[row], "busy")) if column == _STATE else text

    return format_columns(_COLUMNS, rows, style, paint)


def _make_row(one: dict[str, Any], state: str, due: float) -> list[str]:
    age = one["lease_seconds"]
    texts = (one["rank"], state, one["ip"] or "-", one["hostname"] or "-", one["generation"])
    return [*map(str, texts), _format_last_sign(age), _describe_silence(one, due)]


def _format_last_sign(age: float | None) -> str:
    if age is None:
        return "-"
    return f"{age:.1f} s" if age < _PRECISE else format_age(age)


def _select_conditions(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Select what is not as it should be; the summary may have it already, and the table has absent ranks."""
    summary = seen["summary"]["message"]
    return [
        one
        for one in seen.get("conditions", ())
        if one["status"] == "False"
        and one["type"] not in ("Ready", "RanksPresent")
        and one["message"] not in summary
    ]


def _format_message(what: str, fields: dict[str, Any] | None) -> list[str]:
    """Format what has a sentence of its own; nothing where there is nothing to tell."""
    return [f"{what}: {fields['message']}"] if fields and fields.get("message") else []


def _format_past(what: str, event: dict[str, Any] | None, now: float) -> list[str]:
    """Format something that happened, with how long ago that was, and when in the local zone."""
    if not event:
        return []
    return [f"{what} {format_age(now - event['at'])} ago, {format_time(event['at'])}: {event['detail']}"]


def _format_condition(condition: dict[str, Any]) -> str:
    """Format a false condition: since when, what is wrong and what happens next."""
    since = condition["since"]
    return condition["message"] if since is None else f"since {format_time(since)}: {condition['message']}"


def _format_secrets(secrets: dict[str, Any] | None) -> list[str]:
    """Format the progress of a change of the secret; nothing if none is under way."""
    if secrets is None or (secrets["accepted"] == 1 and secrets["differing"] == []):
        return []
    strangers = secrets.get("strangers", [])
    if secrets["accepted"] == 1 and strangers and secrets["differing"] in (None, strangers):
        return [_describe_wrong_secret(strangers)]
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


def _describe_wrong_secret(strangers: list[int]) -> str:
    """Describe what to do about ranks with another secret, though none is being changed."""
    have = "have" if len(strangers) > 1 else "has"
    return (
        f"{format_ranks(strangers)} {have} another UNIT_SECRET and cannot join the next barrier: all ranks "
        "need the same; while it is changed, UNIT_SECRET_FILE has the old one and the new one"
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
    if one["incarnation"] is None:
        return "never joined"
    if over or age is None or age <= due:
        return ""
    return f"{'lost' if one['state'] == 'lost' else 'silent'} for {format_age(age)}"
