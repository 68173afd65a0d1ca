"""The figures of a history: how long each kind of fault took to be noticed and to be over."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tests.chaos.checker import isolating
from tests.chaos.detection import detected, recovered
from tests.chaos.faults import KINDS
from tests.chaos.history import Chronicle, History, Round

Told = tuple[History, Round]


def report(chronicle: Chronicle, violations: Sequence[str]) -> dict[str, Any]:
    """All figures, as plain data; durations in seconds."""
    told = [(unit, one) for unit in chronicle.units for one in unit.rounds]
    lone = {kind: [(unit, one) for unit, one in told if _is_alone(one, kind)] for kind in KINDS}
    return {
        "size": chronicle.size,
        "rounds": len(told),
        "seconds": round(_last(chronicle) - chronicle.began, 1),
        "timings": [[unit.timing.lease, unit.timing.heartbeat] for unit in chronicle.units],
        "generations": sum(len({life.generation for life in unit.lives}) for unit in chronicle.units),
        "needless_restarts": sum(_needless(one) for _, one in told),
        "violations": list(violations),
        "faults": {kind: _figures(rounds, kind) for kind, rounds in lone.items() if rounds},
        "pairs": _pairs(told),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"{'fault':34} {'n':>3}  {'detected after':>17}  {'recovered after':>17}",
        f"{'':34} {'':3}  {'median':>8} {'max':>8}  {'median':>8} {'max':>8}",
    ]
    rows = [*figures["faults"].items(), ("any two at once", figures["pairs"])]
    for kind, row in rows:
        cells = [_cell(row[name], pick) for name in ("detected", "recovered") for pick in ("median", "max")]
        lines.append(f"{kind:34} {row['n']:3}  {cells[0]} {cells[1]}  {cells[2]} {cells[3]}")
    lines.append(
        f"{figures['rounds']} rounds in {figures['seconds']} s, {figures['generations']} generations, "
        f"{len(figures['timings'])} Units,"
    )
    lines.append(f"{figures['needless_restarts']} needless restarts, {len(figures['violations'])} violations")
    return "\n".join([*lines, *figures["violations"]])


def _cell(row: dict[str, float] | None, pick: str) -> str:
    return f"{row[pick]:8.3f}" if row else f"{'-':>8}"


def _figures(rounds: Sequence[Told], kind: str) -> dict[str, Any]:
    restarts = KINDS[kind].restarts
    seen = [detected(unit, one) for unit, one in rounds if restarts]
    back = [recovered(unit, one) for unit, one in rounds if restarts]
    return {"n": len(rounds), "detected": _summary(seen), "recovered": _summary(back)}


def _pairs(told: Sequence[Told]) -> dict[str, Any]:
    pairs = [(unit, one) for unit, one in told if len(one.faults) > 1]
    back = [recovered(unit, one) for unit, one in pairs]
    return {"n": len(pairs), "detected": None, "recovered": _summary(back)}


def _is_alone(one: Round, kind: str) -> bool:
    return [fault.kind for fault in one.faults] == [kind]


def _needless(one: Round) -> bool:
    causes = any(KINDS[fault.kind].restarts for fault in one.faults)
    return not causes and one.after > one.before and not isolating(one)


def _summary(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": round(statistics.median(known), 3), "max": round(max(known), 3)}


def _last(chronicle: Chronicle) -> float:
    return max((sample.at for sample in chronicle.samples), default=chronicle.began)
