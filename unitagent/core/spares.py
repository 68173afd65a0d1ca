"""The spares of a Unit for people and programs: who stands by, and whether enough do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from unitagent.core.model import Record, format_age, format_ranks, shorten_list


class Standby(Struct, frozen=True, kw_only=True):
    """What a spare publishes about itself while it stands by.

    Attributes:
        number: Its place among the spares, from UNIT_SIZE on; the lowest one takes a lost rank first.
        incarnation: Random id of this life of the agent.
        ip: Address on the chosen network interface.
        port: Port of the probe server; 0 for none.
        hostname: Name of the host, for people.
        since: Since when it stands by, in seconds since the epoch, by its own clock.
        age: Seconds since it last renewed this, by the store's clock; only known to who reads it.

    """

    number: int
    incarnation: str
    ip: str
    port: int
    hostname: str = ""
    since: float = 0.0
    age: float = 0.0


def describe_spares(
    listed: Sequence[Standby],
    lease: float,
    *,
    wanted: int | None = None,
    later: float = 0.0,
    answers: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """Return the key ``spares`` of ``/status``.

    Args:
        listed: the list in the store.
        lease: seconds after which a spare that has not renewed its line does not stand by any more.
        wanted: ``UNIT_SPARES``; None where that is not known.
        later: seconds since the list was read.
        answers: whether a spare answered at its address, by incarnation.

    """
    known = answers or {}
    spares: dict[str, Any] = {
        "wanted": wanted,
        "standing_by": sum(one.age <= lease for one in listed),
        "unreachable": sum(one.age <= lease and known.get(one.incarnation) is False for one in listed),
        "list": [
            {
                "number": one.number,
                "incarnation": one.incarnation,
                "ip": one.ip,
                "port": one.port,
                "hostname": one.hostname,
                "since": round(one.since, 3),
                "seen_seconds": round(one.age + later, 3),
                "standing_by": one.age <= lease,
                "answers": known.get(one.incarnation),
            }
            for one in listed
        ],
    }
    return {**spares, "message": _describe(spares)}


def _describe(spares: Mapping[str, Any]) -> str:
    """How many stand by, where they are, and what is wrong."""
    of = "" if spares["wanted"] is None else f" of {spares['wanted']}"
    where = ", ".join(shorten_list([_name(one) for one in spares["list"] if one["standing_by"]]))
    standing = f"{spares['standing_by']}{of} standing by{': ' if where else ''}{where}"
    return "; ".join(filter(None, (standing, *_list_troubles(spares))))


def explain_missing(spares: Mapping[str, Any] | None) -> str:
    """Say that fewer spares stand by than there should be, or that some do not answer; "" if all is well."""
    if not spares:
        return ""
    wanted, standing = spares["wanted"], spares["standing_by"]
    verb = "stands" if standing == 1 else "stand"
    few = wanted is not None and standing < wanted
    missing = f"{standing} of {wanted} spares {verb} by (UNIT_SPARES)" if few else ""
    return "; ".join(filter(None, (missing, *_list_troubles(spares))))


def _list_troubles(spares: Mapping[str, Any]) -> Iterator[str]:
    for one in spares["list"]:
        if not one["standing_by"]:
            yield f"spare {_name(one)} has been silent for {format_age(one['seen_seconds'])}"
        elif one["answers"] is False:
            yield f"spare {_name(one)} does not answer rank 0 at port {one['port']}, so it could not join"


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['number']} ({', '.join(filter(None, (one['ip'], one['hostname'])))})"


def explain_misfit(me: Record, living: Mapping[int, Record | None]) -> str:
    """Say with which holders of ranks no generation that I am in could start; "" if it could with all.

    Args:
        me: the record of a spare.
        living: the records of the holders that live; None for one that I cannot read.

    """
    unread = sorted(rank for rank, record in living.items() if record is None)
    known = [record for record in living.values() if record is not None]
    sizes = {one.rank: str(one.size) for one in known if one.size != me.size}
    revisions = {one.rank: one.revision or "none" for one in known if one.revision != me.revision}
    parts = [f"no valid record of {format_ranks(unread)} (another UNIT_SECRET?)"] if unread else []
    for name, theirs, mine in (
        ("UNIT_SIZE", sizes, str(me.size)),
        ("UNIT_REVISION", revisions, me.revision or "none"),
    ):
        for value in sorted(set(theirs.values())):
            ranks = sorted(rank for rank, other in theirs.items() if other == value)
            verb = "has" if len(ranks) == 1 else "have"
            parts.append(f"{format_ranks(ranks)} {verb} {name}={value}, this spare has {mine}")
    return f"{'; '.join(parts)}: it cannot stand in for another rank" if parts else ""
