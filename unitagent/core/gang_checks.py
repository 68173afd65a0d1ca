"""Who stands at the barrier: incarnations, never places.

A record says where its agent is to be found. Before I start with it, that very incarnation has answered me
there, from my own card, signed with the Unit's secret where there is one. Whatever else answers is named in a
sentence, and two records with one address never stand together: one of them leads to the other, or both to
somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from unitagent.core.actions import Action, CheckPeers
from unitagent.core.events import ProbeResult
from unitagent.core.leases import find_neighbours
from unitagent.core.model import Gang, Record, format_ranks, shorten_list
from unitagent.core.state import describe_rank

if TYPE_CHECKING:
    from unitagent.core.state import Result, State

FULL_CHECK = 32  # instances; in larger Units each checks rank 0 and its two neighbours only


def find_unproven(state: State, roster: Iterable[Record]) -> tuple[Record, ...]:
    """Peers that have not answered me themselves: another card, machine or secret is a silent hang later."""
    if not state.config.probes:
        return ()
    near = {0, *find_neighbours(state.config.rank, state.config.size)}
    return tuple(
        record
        for record in roster
        if record.rank != state.config.rank
        and record.port
        and (state.config.size <= FULL_CHECK or record.rank in near)
        and record.incarnation not in state.barrier.reached
    )


def check_peers(state: State, gang: Gang, peers: tuple[Record, ...]) -> Result:
    """Ask these who they are, unless that is under way."""
    if state.barrier.checking == gang.id or state.now < state.barrier.check_again:
        return state, ()
    actions: tuple[Action, ...] = (CheckPeers(gang.id, peers),)
    return state.with_barrier(checking=gang.id), actions


def find_clashes(roster: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Records that name one address and port; the same address with other ports is another place. Without a
    port, ranks of one machine may share its address, and the same address on two machines is two places.
    """
    at: dict[tuple[str, int], list[Record]] = {}
    for record in roster:
        if not record.left:
            at.setdefault((record.ip, record.port), []).append(record)
    return [tuple(there) for there in at.values() if len(there) > 1 and _is_clash(there)]


def _is_clash(there: list[Record]) -> bool:
    machines = {record.netns for record in there if record.netns}
    return bool(there[0].port) or len(machines) > 1


def explain_clashes(roster: Iterable[Record]) -> Iterator[str]:
    """One clause for each address that several ranks name."""
    for there in find_clashes(roster):
        who = format_ranks(sorted(record.rank for record in there))
        both = "both" if len(there) == 2 else "all"  # noqa: PLR2004
        where = f"{there[0].ip}, port {there[0].port}" if there[0].port else there[0].ip
        yield (
            f"{who} {both} say {where}: the same bridge address on two machines? Give each an address that "
            "the others reach (COMM_IFNAME, RANK_IP), or another port (UNIT_HTTP_ADDRESS)"
        )


def explain_foreign(state: State, foreign: Sequence[int]) -> str:
    """One clause for the ranks whose records are signed with another secret than mine, or not at all."""
    verb = "has" if len(foreign) == 1 else "have"
    mine = state.config.rank
    return f"{format_ranks(foreign)} {verb} another UNIT_SECRET than rank {mine}; all ranks need the same"


def explain_unproven(state: State, roster: Iterable[Record]) -> Iterator[str]:
    """One clause for each peer that was asked and did not answer itself."""
    unreached, me = [], describe_rank(state, state.config.rank)
    for record in roster:
        found = state.barrier.found.get(record.incarnation)
        who = describe_rank(state, record.rank)
        match found:
            case None | ProbeResult.ALIVE:
                continue
            case ProbeResult.SELF:
                yield f"this rank itself answers at {who}: its address leads back to this machine (RANK_IP)"
            case ProbeResult.OTHER:
                yield f"another instance answers at the address of {who}, port {record.port}"
            case ProbeResult.STRANGER:
                yield (
                    f"{who} has another UNIT_SECRET than rank {state.config.rank}; all ranks need the same, "
                    "and none is another, too"
                )
            case _ if _is_ipv6(record.ip) != _is_ipv6(state.me.ip):
                families = ("IPv6", "IPv4") if _is_ipv6(record.ip) else ("IPv4", "IPv6")
                yield (
                    f"{who} is {families[0]}, {me} {families[1]}; give all ranks addresses of one family "
                    "(RANK_IP, or COMM_IFNAME of an interface that has one)"
                )
            case _:
                unreached.append(who)
    if unreached:
        yield (
            f"{me} cannot reach {', '.join(shorten_list(unreached))} from its interface (wrong COMM_IFNAME "
            "or a firewall?)"
        )


def _is_ipv6(ip: str) -> bool:
    return ":" in ip
