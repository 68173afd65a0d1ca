"""The figures of a history: how long each kind of fault took to be noticed and to be over."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tests.chaos.checker import isolating
from tests.chaos.detection import detected
from tests.chaos.faults import KINDS
from tests.chaos.history import History, Round


def report(history: History, violations: Sequence[str]) -> dict[str, Any]:
    """All figures, as plain data; durations in seconds."""
    return {
        "size": history.size,
        "rounds": len(history.rounds),
        "seconds": round(_last(history) - history.began, 1),
        "generations": len({life.generation for life in history.lives}),
        "needless_restarts": sum(_needless(history, one) for one in history.rounds),
        "violations": list(violations),
        "faults": {kind: _figures(history, kind) for kind in KINDS if _alone(history, kind)},
        "pairs": _pairs(history),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{'fault':30} {'n':>3}  {'detected after':>17}  {'recovered after':>17}",
        f"{'':30} {'':3}  {'median':>8} {'max':>8}  {'median':>8} {'max':>8}",
    ]
    rows = [*figures["faults"].items(), ("any two at once", figures["pairs"])]
    for kind, row in rows:
        cells = [_cell(row[name], pick) for name in ("detected", "recovered") for pick in ("median", "max")]
        lines.append(f"{kind:30} {row['n']:3}  {cells[0]} {cells[1]}  {cells[2]} {cells[3]}")
    lines.append(
        f"{figures['rounds']} rounds in {figures['seconds']} s, {figures['generations']} generations,"
    )
    lines.append(f"{figures['needless_restarts']} needless restarts, {len(figures['violations'])} violations")
    return "\n".join([*lines, *figures["violations"]])


def _cell(row: dict[str, float] | None, pick: str) -> str:
    return f"{row[pick]:8.3f}" if row else f"{'-':>8}"


def _figures(history: History, kind: str) -> dict[str, Any]:
    rounds = _alone(history, kind)
    seen = [detected(history, one) for one in rounds if KINDS[kind].restarts]
    recovered = [_recovered(history, one) for one in rounds if KINDS[kind].restarts]
    return {"n": len(rounds), "detected": _summary(seen), "recovered": _summary(recovered)}


def _pairs(history: History) -> dict[str, Any]:
    rounds = [one for one in history.rounds if len(one.faults) > 1]
    recovered = [_recovered(history, one) for one in rounds]
    return {"n": len(rounds), "detected": None, "recovered": _summary(recovered)}


def _alone(history: History, kind: str) -> list[Round]:
    return [one for one in history.rounds if [fault.kind for fault in one.faults] == [kind]]


def _recovered(history: History, one: Round) -> float | None:
    """From when all faults were over to when the last workload was started."""
    born = [life.born for life in history.lives if life.main and one.before < life.generation == one.after]
    return max(0.0, max(born) - one.over) if born and not one.stuck else None


def _needless(history: History, one: Round) -> bool:
    causes = any(KINDS[fault.kind].restarts for fault in one.faults)
    return not causes and one.after > one.before and not isolating(one)


def _summary(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": round(statistics.median(known), 3), "max": round(max(known), 3)}


def _last(history: History) -> float:
    return max((sample.at for sample in history.samples), default=history.began)
