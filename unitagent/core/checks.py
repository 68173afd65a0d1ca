"""Probe answers: pure views of the state. Each check says in one line why it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.core.model import InstanceState
from unitagent.core.state import judged, late_by, members, told_lost

if TYPE_CHECKING:
    from unitagent.core.state import State

OK, NOT_HERE, UNAVAILABLE = 200, 404, 503


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a probe."""

    name: str
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status code and the conditions it follows from."""

    code: int
    checks: tuple[Check, ...]


def _serves(state: State) -> Check:
    me = state.me
    serving = state.in_gang and me.state.serving and state.generation == me.generation
    return Check("workload", serving, f"the workload of rank {me.rank} is not up: {me.state}")


def _ranks(state: State) -> Check:
    """Every member of my gang runs its workload in my generation, and goes on doing so."""
    there = {peer.rank: peer for peer in members(state)}
    down = []
    for rank in range(state.rules.size):
        peer = there.get(rank)
        if rank == state.rules.rank:
            continue
        if peer is None or not peer.state.serving or peer.generation != state.me.generation:
            down.append(f"rank {rank} is {shown_state(state, rank)}")
        elif peer.asked:
            down.append(f"rank {rank} was asked to stop")
    return Check("ranks", not down, ", ".join(down))


def _leases(state: State) -> Check:
    """No member is lost, as far as I can judge; an outage of the store alone is no reason."""
    against = {**state.peers.doubts, **state.peers.suspects}
    late = [peer.rank for peer in judged(state) if late_by(state, peer)]
    leases, heard = state.store.leases, state.peers.heard
    unseen = [
        peer.rank
        for peer in judged(state)
        if not leases.alive(peer.incarnation) and peer.incarnation not in heard
    ]
    why = [f"rank {rank}: {reason}" for rank, reason in sorted(against.items())]
    why += [f"rank {rank} shows no sign of life" for rank in late if rank not in against]
    why += [f"rank {rank} has yet to show a sign of life" for rank in unseen]
    why += [f"rank {rank} is lost, as rank {judge} says" for rank, judge in told_lost(state).items()]
    return Check("leases", not why, "; ".join(why))


def _leader(state: State) -> Check:
    leader = state.me if state.rules.rank == 0 else state.store.records.get(0)
    healthy = leader is not None and leader.state is InstanceState.HEALTHY
    return Check("leader", healthy, "the workload of rank 0 is not healthy yet")


def _draining(state: State) -> Check:
    return Check("draining", not is_draining(state), "draining")


def is_draining(state: State) -> bool:
    """Whether the Unit, or this instance alone, is on its way down because somebody asked."""
    return state.shutdown.draining is not None or state.shutdown.asked is not None


def unit_checks(state: State) -> tuple[Check, ...]:
    """What must hold for the whole Unit to serve."""
    return tuple(check(state) for check in (_serves, _ranks, _leases, _leader, _draining))


def is_ready(state: State) -> bool:
    """Whether the whole Unit serves, as far as this agent can know."""
    return all(check.ok for check in unit_checks(state))


def live() -> Answer:
    """The agent's loop runs, or nobody would answer."""
    return Answer(OK, (Check("loop", ok=True),))


def ready(state: State) -> Answer:
    """``/readyz``: the same answer on every rank."""
    found = unit_checks(state)
    return Answer(OK if all(check.ok for check in found) else UNAVAILABLE, found)


def traffic(state: State) -> Answer:
    """``/traffic``: ready, and this is rank 0; 404 tells a balancer to finish and send nothing."""
    elsewhere = f"traffic goes to rank 0, this is rank {state.rules.rank}"
    found = (Check("rank", state.rules.rank == 0, elsewhere), *unit_checks(state))
    if all(check.ok for check in found):
        return Answer(OK, found)
    turned_away = state.rules.rank != 0 or is_draining(state)
    return Answer(NOT_HERE if turned_away else UNAVAILABLE, found)


def startup(state: State) -> Answer:
    """``/startupz``: some generation of this agent's life has been ready."""
    why = "no generation has been ready yet"
    return Answer(
        OK if state.recovery.was_ready else UNAVAILABLE, (Check("startup", state.recovery.was_ready, why),)
    )


def shown_state(state: State, rank: int) -> InstanceState:
    """A rank's state as I would tell it: ``lost`` when it is late and nobody vouches for it."""
    if rank == state.rules.rank:
        return state.me.state
    record = state.store.records.get(rank)
    if record is None:
        return InstanceState.WAITING
    lost = rank in state.peers.suspects or bool(late_by(state, record))
    return InstanceState.LOST if lost else record.state
