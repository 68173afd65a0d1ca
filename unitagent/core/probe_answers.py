"""The rules of the probes in :mod:`probe_paths`: pure views of the state. Each failed check has a one-line
reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.core.health import explain_health
from unitagent.core.keepers import list_unready
from unitagent.core.members import gang_members, judged_members, reported_lost, seconds_late
from unitagent.core.model import InstanceState, format_age, format_ranks
from unitagent.core.restart_pause import describe_pause, is_paused
from unitagent.core.state import describe_rank

if TYPE_CHECKING:
    from unitagent.core.state import State

OK, NOT_HERE, UNAVAILABLE = 200, 404, 503
NEVER_JOINED = "rank {} never joined"
FOREIGN = "rank {} has another UNIT_SECRET"
LOST_FOR = "{} lost for {}"


class ProbeCheck(Struct, frozen=True):
    """One condition of a probe.

    Attributes:
        name: Its name in the answer.
        ok: Whether it holds.
        reason: Why it does not.

    """

    name: str
    ok: bool
    reason: str = ""


class ProbeAnswer(Struct, frozen=True):
    """An HTTP status code and the checks that it follows from.

    Attributes:
        code: 200, 404 or 503.
        checks: All checks of this probe.

    """

    code: int
    checks: tuple[ProbeCheck, ...]


def _check_workload(state: State) -> ProbeCheck:
    me = state.me
    serving = state.in_gang and me.state.serving and state.generation == me.generation
    why = f"the workload of rank {me.rank} is not up: {me.state}"
    if me.state is InstanceState.EXITED:
        why = f"the workload of rank {me.rank} {describe_end(me.exit_code)}"
    if state.loads_keepers:
        why = f"the workload of rank {me.rank} is not up: {describe_loading(state)}"
    if me.pause is not None and is_paused(state):
        why += f"; {describe_pause(state, me.pause)}"
    return ProbeCheck("workload", serving, why)


def describe_loading(state: State) -> str:
    """For which keepers the workload waits, and since when."""
    age = format_age(state.now - state.keeper.since)
    return f"the keepers of {format_ranks(list_unready(state))} are not ready, {age} after their start"


def _check_ranks(state: State) -> ProbeCheck:
    """Every member of my gang runs its workload in my generation and has not been asked to stop."""
    there = {peer.rank: peer for peer in gang_members(state)}
    down = []
    for rank in range(state.config.size):
        peer = there.get(rank)
        if rank == state.config.rank:
            continue
        if peer is None or not peer.state.serving or peer.generation != state.me.generation:
            down.append(describe_absence(state, rank) or _describe_peer(state, rank))
        elif peer.stop_requested:
            down.append(f"rank {rank} was asked to stop")
    return ProbeCheck("ranks", not down, ", ".join(down))


def _check_leases(state: State) -> ProbeCheck:
    """No member is lost, as far as I can judge; an outage of the store alone does not count."""
    against = {**state.peers.readiness_doubts, **state.peers.presumed_lost}
    late = [peer for peer in judged_members(state) if seconds_late(state, peer)]
    leases, known_alive = state.store.leases, state.peers.known_alive_at
    unseen = [
        peer.rank
        for peer in judged_members(state)
        if not leases.was_alive(peer.incarnation) and peer.incarnation not in known_alive
    ]
    why = [f"rank {rank}: {reason}" for rank, reason in sorted(against.items())]
    why += [describe_absence(state, peer.rank) for peer in late if peer.rank not in against]
    why += [f"rank {rank} has yet to show a sign of life" for rank in unseen]
    why += [f"rank {rank} is lost, as rank {judge} reports" for rank, judge in reported_lost(state).items()]
    return ProbeCheck("leases", not why, "; ".join(why))


def check_leader(state: State) -> ProbeCheck:
    """Rank 0's workload passes its health check, or has none."""
    leader = state.me if state.config.rank == 0 else state.store.records.get(0)
    healthy = leader is not None and leader.state is InstanceState.HEALTHY
    return ProbeCheck("leader", healthy, "" if healthy else explain_health(state))


def _check_draining(state: State) -> ProbeCheck:
    by = f"draining, asked by {state.shutdown.requested_by}" if state.shutdown.requested_by else "draining"
    return ProbeCheck("draining", not is_draining(state), by)


def is_draining(state: State) -> bool:
    """Whether the Unit, or this instance alone, was asked to stop."""
    return state.shutdown.draining or state.shutdown.stop_requested


def check_unit(state: State) -> tuple[ProbeCheck, ...]:
    """All conditions under which the whole Unit serves."""
    return tuple(
        check(state)
        for check in (_check_workload, _check_ranks, _check_leases, check_leader, _check_draining)
    )


def is_ready(state: State) -> bool:
    """Whether the whole Unit serves, as far as this agent can know."""
    return all(check.ok for check in check_unit(state))


def answer_livez(_: State) -> ProbeAnswer:
    """``/livez``: the loop of the agent runs, or there would be no answer."""
    return ProbeAnswer(OK, (ProbeCheck("loop", ok=True),))


def answer_readyz(state: State) -> ProbeAnswer:
    """``/readyz``: the same answer on every rank."""
    checks = check_unit(state)
    return ProbeAnswer(OK if all(check.ok for check in checks) else UNAVAILABLE, checks)


def answer_traffic(state: State) -> ProbeAnswer:
    """``/traffic``: the Unit is ready, and this is rank 0; 404 tells a load balancer to finish and send
    nothing new.
    """
    elsewhere = f"traffic goes to rank 0, this is rank {state.config.rank}"
    checks = (ProbeCheck("rank", state.config.rank == 0, elsewhere), *check_unit(state))
    if all(check.ok for check in checks):
        return ProbeAnswer(OK, checks)
    turned_away = state.config.rank != 0 or is_draining(state)
    return ProbeAnswer(NOT_HERE if turned_away else UNAVAILABLE, checks)


def answer_startupz(state: State) -> ProbeAnswer:
    """``/startupz``: some generation has been ready since this agent started."""
    why = "no generation has been ready yet"
    return ProbeAnswer(
        OK if state.recovery.was_ready else UNAVAILABLE,
        (ProbeCheck("startup", state.recovery.was_ready, why),),
    )


def describe_absence(state: State, rank: int) -> str:
    """How a rank is missing, in the same words everywhere; empty if its agent is there."""
    record = state.me if rank == state.config.rank else state.store.records.get(rank)
    if record is None:
        return (FOREIGN if rank in state.store.unverified_ranks else NEVER_JOINED).format(rank)
    late = 0.0 if rank == state.config.rank else seconds_late(state, record)
    return LOST_FOR.format(describe_rank(state, rank), format_age(state.config.lease + late)) if late else ""


def _describe_peer(state: State, rank: int) -> str:
    record = state.store.records.get(rank)
    return describe_rank_state(rank, find_shown_state(state, rank), record.exit_code if record else None)


def describe_rank_state(rank: int, shown: InstanceState, exit_code: int | None) -> str:
    """What a rank does, as a clause; how its workload ended if it has."""
    return f"rank {rank} {describe_end(exit_code) if shown is InstanceState.EXITED else f'is {shown}'}"


def describe_end(exit_code: int | None) -> str:
    """That a workload has exited, with its exit code if it is known."""
    return "has exited" if exit_code is None else f"has exited with code {exit_code}"


def find_shown_state(state: State, rank: int) -> InstanceState:
    """A rank's state for people: ``lost`` if its lease has expired and it does not answer, if there is
    evidence against it while the store is away, or if I am cut off from it.
    """
    if rank == state.config.rank:
        return state.me.state
    record = state.store.records.get(rank)
    if record is None:
        return InstanceState.WAITING
    against = rank in state.peers.presumed_lost or rank in state.peers.readiness_doubts
    lost = against or bool(seconds_late(state, record)) or _is_cut_off_from(state, rank)
    return InstanceState.LOST if lost else record.state


def _is_cut_off_from(state: State, rank: int) -> bool:
    """Whether I was stopped because neither the store nor this rank answered."""
    asked = rank == 0 or state.config.rank == 0
    return state.workload.isolated and not state.connected and asked
