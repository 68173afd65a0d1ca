"""What is known of a kind of fault: how it is struck and mended, and what may follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos import limits
from tests.chaos.limits import Limit, Span
from tests.chaos.rebuilding import Platform

Act = Callable[[Platform, int], object]
Where = Literal["rank", "spare", "alone", "store", "everywhere"]
STORE, PEERS = frozenset({"store"}), frozenset({"peers"})


def nothing(_lab: Platform, _rank: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault.

    Attributes:
        prepare: done before it strikes, and no part of it.
        hold: bounds of the seconds between strike and mend; the same for none.
        restarts: the Unit has to restart because of it; else it must not.
        cuts: what somebody cannot reach meanwhile, ``store`` or ``peers``; both together isolate.
        where: it happens to one rank; to one rank with the help of the spare machine and a store that works,
            at once with no other where it is "alone"; to the store; or to everybody.
        noticed: seconds in which another rank's workload has ended because of it, when it comes alone.
        quick: seconds from the rebuilt agent's first answer to the start of the last workload, when it comes
            alone.
        silent: only the store shows it, so it may pass unnoticed while the store is away.
        unseen: no rank's readiness changes because of it, when it comes alone.
        look_on: how long to look on when it is over.
        kept: only a Unit with keepers knows it, so that of its round has them.
        mended_last: its mend waits until the Unit is ready, so no other fault may be left then.

    """

    strike: Act
    mend: Act = nothing
    prepare: Act = nothing
    hold: Span = limits.no_time
    restarts: bool = True
    cuts: frozenset[str] = frozenset()
    where: Where = "rank"
    noticed: Limit | None = None
    quick: float | None = None
    silent: bool = False
    unseen: bool = False
    look_on: Limit = limits.settled
    kept: bool = False
    mended_last: bool = False

    @property
    def of_store(self) -> bool:
        return self.where == "store"
