"""The gang of these ranks, and whether they can form it: same size and revision, equal fingerprints, an
address each, and each peer answers in person.

A record names the address of its agent. Before I start with a peer, that very incarnation has answered
me there, from my own network interface, signed with the Unit's secret if there is one. If anything else
answers, the log says so. Two records with the same address never start together: one of them leads to
the other, or both lead to a third party.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from unitagent.core.actions import Action, CheckPeers
from unitagent.core.events import ProbeResult
from unitagent.core.exits import ExitCode
from unitagent.core.keepers import find_keepers
from unitagent.core.leases import find_neighbours
from unitagent.core.model import Gang, Record, format_ranks, shorten_list
from unitagent.core.state import Result, State, describe_rank, request_exit

FULL_CHECK = 32  # instances; in larger Units each checks rank 0 and its two neighbours only


def build_gang(generation: int, roster: list[Record]) -> Gang:
    """The gang of these records, ordered by rank, with rank 0's master port."""
    return Gang(
        generation=generation,
        incarnations=tuple(record.incarnation for record in roster),
        ips=tuple(record.ip for record in roster),
        master_port=roster[0].master_port,
        keepers=find_keepers(roster),
    )


def find_unproven(state: State, roster: Iterable[Record]) -> tuple[Record, ...]:
    """Peers that have not answered me yet. A wrong interface, machine or secret would cause a silent
    hang later.
    """
    if not state.config.probes:
        return ()
    near = {0, *find_neighbours(state.config.rank, state.config.size)}
    return tuple(
        record
        for record in roster
        if record.rank != state.config.rank
        and record.port
        and (state.config.size <= FULL_CHECK or record.rank in near)
        and record.incarnation not in state.barrier.reached_at
    )


def check_peers(state: State, gang: Gang, peers: tuple[Record, ...]) -> Result:
    """Probe these peers, unless that is in progress."""
    if state.barrier.probing_gang == gang.id or state.now < state.barrier.probe_again_at:
        return state, ()
    actions: tuple[Action, ...] = (CheckPeers(gang.id, peers),)
    return state.with_barrier(probing_gang=gang.id), actions


def find_clashes(roster: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Groups of records with the same address and port; the same address with other ports is a
    different place. Without ports, ranks of one machine may share its address, but one address on two
    machines is a clash.
    """
    at: dict[tuple[str, int], list[Record]] = {}
    for record in roster:
        if not record.has_left:
            at.setdefault((record.ip, record.port), []).append(record)
    return [tuple(there) for there in at.values() if len(there) > 1 and _is_clash(there)]


def _is_clash(there: list[Record]) -> bool:
    machines = {record.netns for record in there if record.netns}
    return bool(there[0].port) or len(machines) > 1


def explain_clashes(roster: Iterable[Record]) -> Iterator[str]:
    """One clause for each address that several ranks claim."""
    for there in find_clashes(roster):
        ranks = format_ranks(sorted(record.rank for record in there))
        both = "both" if len(there) == 2 else "all"  # noqa: PLR2004
        where = f"{there[0].ip}, port {there[0].port}" if there[0].port else there[0].ip
        yield (
            f"{ranks} {both} claim {where}: the same bridge address on two machines? Give each an address "
            "that the others reach (COMM_IFNAME, RANK_IP), or another port (UNIT_HTTP_ADDRESS)"
        )


def explain_foreign(state: State, foreign: Sequence[int]) -> str:
    """One clause for the ranks whose records are signed with another secret than mine, or not at all."""
    verb = "has" if len(foreign) == 1 else "have"
    mine = state.config.rank
    return f"{format_ranks(foreign)} {verb} another UNIT_SECRET than rank {mine}; all ranks need the same"


def explain_unproven(state: State, roster: Iterable[Record]) -> Iterator[str]:
    """One clause for each peer that was probed and did not answer in person."""
    unreached, me = [], describe_rank(state, state.config.rank)
    for record in roster:
        result = state.barrier.probe_results.get(record.incarnation)
        rank = describe_rank(state, record.rank)
        match result:
            case None | ProbeResult.ALIVE:
                continue
            case ProbeResult.SELF:
                yield f"this rank itself answers at {rank}: its address leads back to this machine (RANK_IP)"
            case ProbeResult.OTHER:
                yield f"another instance answers at the address of {rank}, port {record.port}"
            case ProbeResult.STRANGER:
                yield (
                    f"{rank} has another UNIT_SECRET than rank {state.config.rank}; all ranks need the same "
                    "one, or none"
                )
            case _ if _is_ipv6(record.ip) != _is_ipv6(state.me.ip):
                families = ("IPv6", "IPv4") if _is_ipv6(record.ip) else ("IPv4", "IPv6")
                yield (
                    f"{rank} is {families[0]}, {me} {families[1]}; give all ranks addresses of one family "
                    "(RANK_IP, or COMM_IFNAME of an interface that has one)"
                )
            case _:
                unreached.append(rank)
    if unreached:
        yield (
            f"{me} cannot reach {', '.join(shorten_list(unreached))} from its interface (wrong COMM_IFNAME "
            "or a firewall?)"
        )


def _is_ipv6(ip: str) -> bool:
    return ":" in ip


# Size and revision.


def refuse_disagreement(state: State) -> Result:
    """Ranks that can never form one Unit must not wait for each other: the newcomer, or the higher
    rank, exits with 77.
    """
    if not state.store.is_new_snapshot or state.up:
        return state, ()
    for record in state.store.records.values():
        at_odds = _explain_disagreement(state, record)
        if at_odds and _must_leave(state, record):
            return request_exit(state, ExitCode.DISAGREE, at_odds), ()
    return state, ()


def _explain_disagreement(state: State, record: Record) -> str:
    """Why this record and I can never meet at a barrier; "" if we can."""
    size, revision = state.config.size, state.me.revision
    if record.size == size and (record.revision == revision or not state.config.strict):
        return ""
    rank, me = describe_rank(state, record.rank), f"rank {state.config.rank}"
    if record.size != size:
        return f"the ranks disagree on the size: {rank} has UNIT_SIZE={record.size}, {me} has {size}"
    values = f"{rank} has UNIT_REVISION={record.revision or 'none'}, {me} has {revision or 'none'}"
    return f"the ranks disagree on the revision, and UNIT_STRICT is set: {values}"


def _must_leave(state: State, record: Record) -> bool:
    """Whether that agent is alive and I am the one to leave."""
    if record.has_left or record.rank == state.config.rank:
        return False
    alive = state.store.leases.was_alive(record.incarnation)
    return alive and (not state.joined or record.rank < state.config.rank)


def find_conflicting_ranks(state: State) -> tuple[int, ...]:
    """Ranks whose heartbeats I read because one of us has to leave."""
    if state.up:
        return ()
    return tuple(rank for rank, record in state.store.records.items() if _explain_disagreement(state, record))


# Fingerprint.


def describe_differences(roster: list[Record], *, strict: bool) -> str:
    """Which ranks differ from rank 0 in what must be equal, in one sentence; "" if none does."""
    expected = _parse_fingerprint(roster[0])
    differences = {
        record.rank: _describe_difference(expected, _parse_fingerprint(record))
        for record in roster
        if record.fingerprint != roster[0].fingerprint
    }
    apart = {rank: difference for rank, difference in differences.items() if difference}
    if not apart:
        return ""
    listed = "; ".join(shorten_list([f"rank {rank}: {difference}" for rank, difference in apart.items()]))
    return (
        f"these differ from rank 0's and must be equal on all ranks: {listed}; compare `unitagent env` and "
        f"`printenv` of {format_ranks([*apart])} with those of rank 0; UNIT_STRICT={_describe_strict(strict)}"
    )


def _describe_strict(strict: bool) -> str:
    return "true refuses them (exit 77)" if strict else "true would refuse them (exit 77)"


def _parse_fingerprint(record: Record) -> dict[str, str]:
    parts = (word.partition("=") for word in record.fingerprint.split())
    return {name: value for name, _, value in parts}


def _describe_difference(expected: Mapping[str, str], actual: Mapping[str, str]) -> str:
    """What differs, with both values unless they are hashes."""
    names = sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
    return ", ".join(
        f"{name}={actual.get(name, 'unset')} (rank 0: {expected.get(name, 'unset')})"
        if name.startswith("UNIT_")
        else name
        for name in names
    )
