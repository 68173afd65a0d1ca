"""What settings must agree on with each other: each rule is one function that yields what is wrong.

The invariant: rules only look. None adjusts a value, so what a person wrote is what runs, or nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitagent import values
from unitagent.core import timing
from unitagent.settings.variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitagent.discovery.platforms import Platform
    from unitagent.settings.sources import SourcedText

Parsed = dict[str, Any]  # variable -> value; a variable whose text was refused is absent


def find_conflicts(
    given: Mapping[str, SourcedText], parsed: Parsed, platform: Platform | None, *, identity: bool
) -> Iterator[str]:
    """Yield every problem between the values; with ``identity`` also those of rank and size.

    Args:
        given: what was said, and by whom.
        parsed: what it means.
        platform: the one that was recognised.
        identity: whether rank and size have to be known.

    """
    yield from _check_password(given)
    yield from _check_lease(given, parsed)
    yield from _check_stop_times(given, parsed)
    if identity:
        yield from _check_rank_and_size(given, parsed, platform)
        yield from _check_store(given, parsed)


def _describe_value(given: Mapping[str, SourcedText], name: str) -> str:
    return f"{name}={VARIABLES[name].mask_value(given[name].text)} ({given[name].source})"


def _check_password(given: Mapping[str, SourcedText]) -> Iterator[str]:
    url = given.get("UNIT_REDIS_URL")
    if url and url.source.startswith("flag") and values.has_password(url.text):
        yield (
            f"--redis-url={values.masked(url.text)}: everybody can read a password in the process list; "
            "accepted is a URL without one; use the variable UNIT_REDIS_URL or UNIT_REDIS_URL_FILE"
        )


def _check_lease(given: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """Only pairs that can keep the guarantees; what follows from a pair is in ``core/timing.py``."""
    lease, heartbeat = parsed.get("UNIT_LEASE_SECONDS"), parsed.get("UNIT_HEARTBEAT_SECONDS")
    if lease is None or heartbeat is None:
        return
    if problem := timing.refuse(lease, heartbeat):
        lease_text = _describe_value(given, "UNIT_LEASE_SECONDS")
        yield f"{lease_text} with {_describe_value(given, 'UNIT_HEARTBEAT_SECONDS')}: {problem}"


def _check_stop_times(given: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    names = ("UNIT_DRAIN_SECONDS", "UNIT_DEREGISTER_SECONDS", "UNIT_STOP_GRACE_SECONDS")
    if not all(name in parsed for name in names):
        return
    drain, deregister, grace = (parsed[name] for name in names)
    if drain + deregister > 0 and drain + deregister >= grace:
        yield (
            f"{', '.join(_describe_value(given, name) for name in names)}: accepted is a grace above the "
            f"other two "
            "together, so that the workload gets its SIGTERM; lower those, or raise UNIT_STOP_GRACE_SECONDS "
            "(below the container's own grace)"
        )


def _check_rank_and_size(
    given: Mapping[str, SourcedText], parsed: Parsed, platform: Platform | None
) -> Iterator[str]:
    advice = f" ({platform.advice})" if platform and platform.advice else ""
    rank, size = "RANK_ID" in given, "UNIT_SIZE" in given
    if not rank and not size:
        yield (
            "RANK_ID and UNIT_SIZE missing: "
            f"{f'{platform.name} tells neither{advice}' if platform else 'no known platform told them'}; "
            "set UNIT_SIZE to the number of instances, or UNIT_CONFIG to a service file, and RANK_ID to "
            "0 … UNIT_SIZE-1, or to auto to claim a free one in the store"
        )
    elif not size:
        yield (
            f"UNIT_SIZE missing: {_describe_value(given, 'RANK_ID')} says which instance this is, nothing "
            f"says of how "
            "many; set UNIT_SIZE from 1 to 1024, or UNIT_CONFIG to a service file with unit.size"
        )
    elif not rank:
        yield (
            f"RANK_ID missing: {_describe_value(given, 'UNIT_SIZE')} says how many instances there are, "
            f"{f'{platform.name} tells no rank{advice}' if platform else 'nothing tells a rank'}; "
            "set RANK_ID to 0 … UNIT_SIZE-1, or to auto to claim a free one in the store"
        )
    elif parsed.get("RANK_ID") is not None and parsed["RANK_ID"] >= parsed.get("UNIT_SIZE", float("inf")):
        yield (
            f"{_describe_value(given, 'RANK_ID')} with {_describe_value(given, 'UNIT_SIZE')}: accepted is a "
            f"rank from 0 to "
            f"{parsed['UNIT_SIZE'] - 1}; correct RANK_ID or raise UNIT_SIZE"
        )


def _check_store(given: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """Without a store of its own a Unit's is at rank 0, which the others then have to be told."""
    if "UNIT_REDIS_URL" in given or "UNIT_REDIS_URL_FILE" in given or "RANK_ID" not in parsed:
        return
    yield from _check_store_port(given, parsed)
    if parsed["RANK_ID"] is None:
        yield (
            f"UNIT_REDIS_URL missing: {_describe_value(given, 'RANK_ID')} claims a rank in the store, and "
            f"without "
            "that the store is at rank 0, which nobody has yet; set UNIT_REDIS_URL, or RANK_ID to a number"
        )
    elif parsed["RANK_ID"] > 0 and "MASTER_ADDRESS" not in given:
        yield (
            f"MASTER_ADDRESS missing: {_describe_value(given, 'RANK_ID')} has to find the store of rank 0; "
            "set MASTER_ADDRESS to rank 0's IP or DNS name, or UNIT_REDIS_URL to a store of its own"
        )


def _check_store_port(given: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """The embedded store shares its port with nobody."""
    port, probes = parsed.get("UNIT_STORE_PORT"), parsed.get("UNIT_HTTP_ADDRESS", ("", 0))[1]
    if "UNIT_STORE_PORT" not in given and probes == values.HIGHEST_PORT:
        yield (
            f"{_describe_value(given, 'UNIT_HTTP_ADDRESS')}: the store at rank 0 listens one port above; "
            f"accepted is a "
            f"port below {values.HIGHEST_PORT}; lower it, set UNIT_STORE_PORT on all ranks, or set "
            "UNIT_REDIS_URL to a store of its own"
        )
    for name, taken in (
        ("UNIT_HTTP_ADDRESS", probes),
        ("UNIT_TRAFFIC_PORT", parsed.get("UNIT_TRAFFIC_PORT")),
    ):
        if port is not None and port == taken:
            yield (
                f"{_describe_value(given, 'UNIT_STORE_PORT')} with {_describe_value(given, name)}: accepted "
                f"is a port that "
                "nothing else of the Unit listens on; set UNIT_STORE_PORT to another one, on all ranks"
            )
