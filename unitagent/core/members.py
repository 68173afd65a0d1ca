"""The other members of my gang: which of them I watch and judge, and which are late or silent.

In a Unit of at most ``ALL_BEATS`` ranks I judge all of them. In a larger one I judge only my two neighbours
in the ring, and ranks 1 to 32 judge rank 0, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from unitagent.core.leases import NEVER, find_neighbours
from unitagent.core.model import Record
from unitagent.core.state import State

SMALL_UNIT = 8  # instances; up to here all watch all
ALL_BEATS = 32  # instances; in larger Units each agent reads only the heartbeats it judges


def gang_members(state: State, ranks: Iterable[int] | None = None) -> list[Record]:
    """The current records of the other members of my gang, without those whose rank has another
    incarnation now; of these ranks alone, if they are given. In the order of their ranks.
    """
    if state.workload.gang is None:
        return []
    incarnations, records, mine = state.workload.gang.incarnations, state.store.records, state.config.rank
    everybody = range(len(incarnations))
    return [
        record
        for rank in (everybody if ranks is None else sorted(rank for rank in ranks if rank in everybody))
        if rank != mine
        and (record := records.get(rank)) is not None
        and record.incarnation == incarnations[rank]
    ]


def watched_peers(state: State) -> tuple[Record, ...]:
    """The gang members to which I keep a connection: my two neighbours in the ring, or in a small Unit
    all members, so that everybody notices a death at once. Rank 0, which has the traffic, watches as
    many as it can, and is watched by those that it answers itself.
    """
    size, rank = state.config.size, state.config.rank
    if size <= (ALL_BEATS if rank == 0 else SMALL_UNIT):
        return tuple(gang_members(state))
    near = {*find_neighbours(rank, size), *((0,) if find_relay(rank, size) == 0 else ())}
    return tuple(gang_members(state, near))


def find_relay(rank: int, size: int) -> int:
    """The rank that tells this one about rank 0 while the store is away. In a small Unit that is rank 0
    itself; in a large one rank 0 answers ``ALL_BEATS`` others and each of them answers some of the
    rest, so that nobody answers all.
    """
    return 0 if size <= ALL_BEATS or rank <= ALL_BEATS else 1 + rank % ALL_BEATS


def judged_members(state: State) -> tuple[Record, ...]:
    """The gang members whose heartbeats I read: all of them, unless the Unit is large."""
    return tuple(gang_members(state)) if state.config.size <= ALL_BEATS else watched_peers(state)


def is_overdue(state: State, peer: Record) -> bool:
    """Whether the peer's lease has expired in the last snapshot. With a second witness the store's own
    clock tells when it sent its last heartbeat; without one, only the time at which I saw it counts.
    """
    leases = state.store.leases
    since = leases.seconds_silent if state.config.probes else leases.seconds_unchanged
    return since(peer.incarnation) >= state.config.lease


def confirmed_alive(state: State, peer: Record) -> bool:
    """Whether the peer answered within the lease; its own word is as good a sign of life as a
    heartbeat.
    """
    return state.now - state.peers.known_alive_at.get(peer.incarnation, NEVER) < state.config.lease


def is_silent(state: State, peer: Record) -> bool:
    """Whether its lease has expired and its agent does not answer either, if it can be asked."""
    unresponsive = peer.incarnation in state.peers.unresponsive and not confirmed_alive(state, peer)
    return is_overdue(state, peer) and (unresponsive or not state.config.probes)


def seconds_late(state: State, record: Record) -> float:
    """Seconds by which a record's agent has overrun its lease, by its heartbeats and its answers; 0 if
    it has not.
    """
    still = state.store.leases.seconds_unchanged(record.incarnation) - state.config.lease
    return 0.0 if record.has_left or confirmed_alive(state, record) else max(0.0, still)


def reported_lost(state: State) -> dict[int, int]:
    """The ranks that other members report as lost, each with one member that does."""
    here = (peer for peer in gang_members(state) if peer.generation == state.me.generation)
    return {rank: peer.rank for peer in here for rank in peer.lost}
