"""Short ways to make what a store is told."""

from __future__ import annotations

from typing import Any

from unitagent.core.actions import Exchange
from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import Failure, Reason, Record


def record(rank: int, incarnation: str, generation: int = 1, size: int = 4) -> Record:
    return Record(
        rank=rank, incarnation=incarnation, size=size, ip=f"10.0.0.{rank}", port=9470, generation=generation
    )


def exchange(
    put: Record | None = None,
    *,
    take: str = "",
    seen: int = 0,
    generation: int = 0,
    failure: Failure | None = None,
    judge: tuple[int, ...] = (),
    notify: bool = False,
) -> Exchange:
    return Exchange(
        record=put,
        take=take,
        seen=seen,
        generation=generation,
        failure=failure,
        judge=judge,
        notify=notify,
    )


def failed(generation: int, rank: int = 0, detail: str = "") -> Failure:
    return Failure(generation=generation, rank=rank, ip="10.0.0.1", reason=Reason.EXIT, detail=detail)


def moment(rank: int = 0, number: int = 0, at: float = 0.0, **known: Any) -> HistoryEvent:
    plain = {
        "generation": 1,
        "incarnation": f"i{rank}",
        "kind": EventKind.STATE,
        "detail": f"moment {number}",
    }
    return HistoryEvent(rank=rank, number=number, at=at, **{**plain, **known})
