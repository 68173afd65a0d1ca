"""What can go wrong: each kind of fault can be struck, held for a while, and mended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos import limits
from tests.chaos.kinds import PEERS, STORE, Act, Kind, Where
from tests.chaos.rebuilding import Platform
from tests.chaos.store_faults import OF_STORE
from tests.network.cabling import Direction, Segment


def _signal_workload(number: int) -> Act:
    return lambda lab, rank: lab.strike(rank, number)


def _kill_all_workloads(lab: Platform, _rank: int) -> None:
    newest = max(life.generation for life in lab.watcher.lives())
    for pid in [life.pid for life in lab.watcher.alive() if life.main and life.generation == newest]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _signal_agent(number: int) -> Act:
    return lambda lab, rank: lab.agents[rank].signal(number)


def _kill(lab: Platform, rank: int) -> None:
    lab.agents[rank].kill()


def _rebuild(lab: Platform, rank: int) -> None:
    lab.agents[rank].code()
    lab.rebuild(rank)


def _rebuild_who_was_asked(lab: Platform, rank: int) -> None:
    lab.note_end(rank, lab.agents[rank], due=0)
    lab.rebuild(rank)


def _ask_all(lab: Platform, _rank: int) -> None:
    for agent in lab.agents.values():
        agent.signal(signal.SIGTERM)


def _rebuild_all(lab: Platform, _rank: int) -> None:
    for rank, agent in lab.agents.items():
        lab.note_end(rank, agent, due=0)
    for rank in tuple(lab.agents):
        lab.rebuild(rank)


def _cut(lab: Platform, rank: int) -> None:
    lab.net.cut(lab.place[rank])


def _cut_one_way(direction: Direction) -> Act:
    return lambda lab, rank: lab.net.cut(lab.place[rank], directions=[direction])


def _cut_from(segment: Segment) -> Act:
    return lambda lab, rank: lab.net.cut(lab.place[rank], [segment])


def _heal(lab: Platform, rank: int) -> None:
    lab.net.heal(lab.place[rank])


def _go_dark(lab: Platform, rank: int) -> None:
    _cut(lab, rank)
    _kill(lab, rank)


def _replace_machine(lab: Platform, rank: int) -> None:
    _heal(lab, rank)
    _rebuild(lab, rank)


def _replace_and_heal(lab: Platform, rank: int) -> None:
    """The replacement has the rank when the old one is back."""
    lab.replace(rank)
    lab.net.heal(lab.place[-1])
    lab.fence(rank)


def _replace_set_back_and_heal(lab: Platform, rank: int) -> None:
    """The store may remember the old one as the holder when it is back, and the replacement serves."""
    lab.replace(rank)
    lab.until(lambda: all(lab.is_ready(host) for host in range(lab.size)), "the replacement serves")
    lab.store.set_back()
    lab.net.heal(lab.place[-1])
    lab.fence(rank)


def _replace_set_back_at_once_and_heal(lab: Platform, rank: int) -> None:
    """As above, when the replacement has just joined and nobody else need have seen it: it leaves the rank to
    the old one, which may start with the others, unless it has started first.
    """
    lab.replace(rank)
    lab.store.set_back()
    lab.net.heal(lab.place[-1])
    lab.fence_either(rank)


def _replace_and_wake(lab: Platform, rank: int) -> None:
    """The replacement has the rank when the old one wakes."""
    old = lab.agents[rank]
    lab.replace(rank)
    old.signal(signal.SIGCONT)
    lab.fence(rank)


def sick(folder: Path) -> Path:
    """While this file exists rank 0's workload says that it is not healthy."""
    return folder / "sick"


def _second(strike: Act, mend: Act) -> Kind:
    """A second container of a rank; it waits, for longer than a takeover needs."""
    return Kind(
        strike=strike,
        mend=mend,
        hold=limits.long,
        restarts=False,
        where="spare",
        unseen=True,
        look_on=limits.taken_over,
    )


def _unreachable(strike: Act, mend: Act = _heal, where: Where = "rank") -> Kind:
    return Kind(
        strike=strike, mend=mend, hold=limits.long, cuts=STORE | PEERS, noticed=limits.in_time, where=where
    )


_STOP_AGENT, _WAKE_AGENT = _signal_agent(signal.SIGSTOP), _signal_agent(signal.SIGCONT)

KINDS: dict[str, Kind] = {
    "workload killed": Kind(strike=_signal_workload(signal.SIGKILL), noticed=limits.at_once),
    "workload exits 0": Kind(strike=_signal_workload(signal.SIGUSR1), noticed=limits.at_once),
    "all workloads killed": Kind(strike=_kill_all_workloads),
    "keeper killed": Kind(
        strike=lambda lab, rank: lab.strike_keeper(rank), noticed=limits.at_once, kept=True
    ),
    "health fails": Kind(
        strike=lambda lab, _: sick(lab.folder).touch(),
        mend=lambda lab, _: sick(lab.folder).unlink(),
        hold=lambda _: (5.0, 6.0),
        noticed=lambda _: 5.0,
    ),
    "container killed": Kind(
        strike=_kill, mend=_rebuild, hold=lambda _: (0.1, 1.5), noticed=limits.refused, quick=limits.QUICK
    ),
    "rebuilt at its own address at once": Kind(
        strike=_kill, mend=_rebuild, noticed=limits.refused, quick=limits.QUICK
    ),
    "asked to stop": Kind(strike=_signal_agent(signal.SIGTERM), mend=_rebuild_who_was_asked),
    "everybody asked to stop": Kind(strike=_ask_all, mend=_rebuild_all, where="everywhere"),
    "machine gone": _unreachable(_go_dark, _replace_machine),
    "machine gone, and a spare": replace(
        _unreachable(_go_dark, lambda lab, rank: lab.succeed(rank), where="alone"),
        prepare=lambda lab, _: lab.stand_by(),
        hold=limits.for_a_moment,
    ),
    "agent hangs": Kind(
        strike=_STOP_AGENT, mend=_WAKE_AGENT, hold=limits.long, silent=True, noticed=limits.in_time
    ),
    "agent hangs and is replaced": Kind(
        strike=_STOP_AGENT, mend=_replace_and_wake, hold=limits.long, noticed=limits.in_time, where="spare"
    ),
    "cut off": _unreachable(_cut),
    "cut off and replaced": _unreachable(_cut, _replace_and_heal, where="spare"),
    "cut off and replaced, store set back": replace(
        _unreachable(_cut, _replace_set_back_and_heal, where="spare"), mended_last=True
    ),
    "cut off and replaced, store set back at once": _unreachable(
        _cut, _replace_set_back_at_once_and_heal, where="spare"
    ),
    "deaf": replace(_unreachable(_cut_one_way("in")), noticed=limits.after_one_more_beat),
    "mute": _unreachable(_cut_one_way("out")),
    "newcomer for a held rank": _second(lambda lab, rank: lab.visit(rank), lambda lab, rank: lab.leave(rank)),
    "newcomer at the same address": _second(
        lambda lab, rank: lab.double(rank), lambda lab, rank: lab.part(rank)
    ),
    "agent pauses": Kind(strike=_STOP_AGENT, mend=_WAKE_AGENT, hold=limits.pause, restarts=False),
    "cut off from the store": Kind(
        strike=_cut_from("front"), mend=_heal, hold=limits.outage, restarts=False, cuts=STORE
    ),
    "cut off from the peers": Kind(
        strike=_cut_from("comm"), mend=_heal, hold=limits.outage, restarts=False, cuts=PEERS
    ),
    **OF_STORE,
    "bad line": Kind(
        strike=lambda lab, _: lab.net.impair(*limits.bad_line(lab.timing)),
        mend=lambda lab, _: lab.net.repair(),
        hold=limits.long,
        restarts=False,
        cuts=STORE | PEERS,
        where="store",
    ),
}


def may_meet(one: str, other: str) -> bool:
    """Whether two kinds may strike at once: one at a rank, the other at another, the store or a spare."""
    places = {KINDS[one].where, KINDS[other].where}
    return "rank" in places and not places & {"everywhere", "alone"}


def must_restart(kinds: Sequence[str]) -> bool:
    """Whether these faults together leave the Unit no choice."""
    away = any(KINDS[kind].of_store and KINDS[kind].cuts for kind in kinds)
    return any(KINDS[kind].restarts and not (KINDS[kind].silent and away) for kind in kinds)
