"""Validation of settings against each other: each rule is one function that yields the problems it finds.

The invariant: rules never adjust a value, so either exactly what the user wrote runs, or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitagent import setting_parsers
from unitagent.core import timing
from unitagent.core.config import Mode, Restart
from unitagent.settings.variables import AUTO_KEEPER, VARIABLES
from unitagent.system.limits import MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitagent.discovery.platform_rules import Platform
    from unitagent.settings.sources import SourcedText

Parsed = dict[str, Any]  # variable -> value, without those whose text is invalid


def find_conflicts(
    raw: Mapping[str, SourcedText], parsed: Parsed, platform: Platform | None, *, identity: bool
) -> Iterator[str]:
    """Yield every conflict between the values.

    Args:
        raw: the texts and their sources.
        parsed: the values.
        platform: the detected platform.
        identity: whether rank and size must be known.

    """
    yield from _check_password(raw)
    yield from _check_lease(raw, parsed)
    yield from _check_stop_times(raw, parsed)
    yield from _check_keeper(raw, parsed)
    if identity:
        yield from _check_rank_and_size(raw, parsed, platform)
        yield from _check_store(raw, parsed)


def _describe_value(raw: Mapping[str, SourcedText], name: str) -> str:
    return f"{name}={VARIABLES[name].mask_value(raw[name].text)} ({raw[name].source})"


def _check_password(raw: Mapping[str, SourcedText]) -> Iterator[str]:
    url = raw.get("UNIT_REDIS_URL")
    if url and url.source.startswith("flag") and setting_parsers.has_password(url.text):
        yield (
            f"--redis-url={setting_parsers.redact_url(url.text)}: must not contain a password, which every "
            "user can read in the process list; set UNIT_REDIS_URL or UNIT_REDIS_URL_FILE instead"
        )


def _check_lease(raw: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """Allow only pairs that can keep the guarantees; ``core/timing.py`` derives the rest from them."""
    lease, heartbeat = parsed.get("UNIT_LEASE_SECONDS"), parsed.get("UNIT_HEARTBEAT_SECONDS")
    if lease is None or heartbeat is None:
        return
    if problem := timing.explain_bad_pair(lease, heartbeat):
        lease_text = _describe_value(raw, "UNIT_LEASE_SECONDS")
        yield f"{lease_text} with {_describe_value(raw, 'UNIT_HEARTBEAT_SECONDS')}: {problem}"


def _check_stop_times(raw: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    names = ("UNIT_DRAIN_SECONDS", "UNIT_DEREGISTER_SECONDS", "UNIT_STOP_GRACE_SECONDS")
    if not all(name in parsed for name in names):
        return
    drain, deregister, grace = (parsed[name] for name in names)
    if drain + deregister > 0 and drain + deregister >= grace:
        yield (
            f"{', '.join(_describe_value(raw, name) for name in names)}: the grace must be longer than the "
            "other two together, so that the workload still gets SIGTERM; lower them, or raise "
            "UNIT_STOP_GRACE_SECONDS (but keep it below the container's own grace)"
        )


def _check_keeper(raw: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """A keeper belongs to a service that is restarted as a whole, in place: it outlives no container."""
    if "UNIT_KEEPER" not in raw:
        for name in ("UNIT_KEEPER_READY", "UNIT_KEEPER_FILES", "UNIT_KEEPER_FAILURE"):
            if name in raw:
                yield f"{_describe_value(raw, name)} without UNIT_KEEPER: set UNIT_KEEPER, or unset {name}"
        return
    if "UNIT_KEEPER_READY" not in raw and parsed.get("UNIT_KEEPER") != AUTO_KEEPER:
        yield (
            f"UNIT_KEEPER_READY missing: {_describe_value(raw, 'UNIT_KEEPER')} is set, but not how to tell "
            "that it is ready; set UNIT_KEEPER_READY to a URL, tcp:PORT, file:PATH or log:PATTERN"
        )
    wanted = (
        ("UNIT_GUARD", True, "true", "its rendezvous is collective, so that no rank can rejoin alone"),
        ("UNIT_MODE", Mode.SERVICE, "service", "a job ends with its workload"),
        ("UNIT_RESTART", Restart.INPLACE, "inplace", "it does not outlive its container"),
    )
    for name, value, text, why in wanted:
        if name in raw and parsed.get(name, value) != value:
            yield f"{_describe_value(raw, name)} with UNIT_KEEPER: must be {text}, since {why}"


def _check_rank_and_size(
    raw: Mapping[str, SourcedText], parsed: Parsed, platform: Platform | None
) -> Iterator[str]:
    advice = f" ({platform.advice})" if platform and platform.advice else ""
    rank, size = "RANK_ID" in raw, "UNIT_SIZE" in raw
    if not rank and not size:
        yield (
            "RANK_ID and UNIT_SIZE missing: "
            f"{f'{platform.name} provides neither{advice}' if platform else 'no known platform found'}; "
            "set UNIT_SIZE to the number of instances, or UNIT_CONFIG to a service file, and RANK_ID to "
            "0 … UNIT_SIZE-1, or to auto to claim a free rank in the store"
        )
    elif not size:
        yield (
            f"UNIT_SIZE missing: {_describe_value(raw, 'RANK_ID')} is set, but the number of instances is "
            "unknown; set UNIT_SIZE from 1 to 1024, or UNIT_CONFIG to a service file with unit.size"
        )
    elif not rank:
        yield (
            f"RANK_ID missing: {_describe_value(raw, 'UNIT_SIZE')} is set, but "
            f"{f'{platform.name} provides no rank{advice}' if platform else 'not which one this is'}; "
            "set RANK_ID to 0 … UNIT_SIZE-1, or to auto to claim a free rank in the store"
        )
    elif parsed.get("RANK_ID") is not None and parsed["RANK_ID"] >= parsed.get("UNIT_SIZE", float("inf")):
        yield (
            f"{_describe_value(raw, 'RANK_ID')} with {_describe_value(raw, 'UNIT_SIZE')}: the rank must "
            f"be from 0 to {parsed['UNIT_SIZE'] - 1}; correct RANK_ID, raise UNIT_SIZE, or set UNIT_SPARES "
            "to the number of instances that stand by"
        )


def _check_store(raw: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """Without an external store, rank 0 runs the Unit's store, and the other ranks need its address."""
    if "UNIT_REDIS_URL" in raw or "UNIT_REDIS_URL_FILE" in raw or "RANK_ID" not in parsed:
        return
    yield from _check_store_port(raw, parsed)
    if parsed["RANK_ID"] is None:
        yield (
            f"UNIT_REDIS_URL missing: {_describe_value(raw, 'RANK_ID')} claims a rank in the store, but "
            "without UNIT_REDIS_URL rank 0 would have to run the store; set UNIT_REDIS_URL, or "
            "RANK_ID to a number"
        )
    elif parsed["RANK_ID"] > 0 and "MASTER_ADDRESS" not in raw:
        yield (
            f"MASTER_ADDRESS missing: {_describe_value(raw, 'RANK_ID')} must find the store at rank 0; "
            "set MASTER_ADDRESS to rank 0's IP address or DNS name, or UNIT_REDIS_URL to an external store"
        )


def _check_store_port(raw: Mapping[str, SourcedText], parsed: Parsed) -> Iterator[str]:
    """The embedded store needs a port of its own."""
    port, probes = parsed.get("UNIT_STORE_PORT"), parsed.get("UNIT_HTTP_ADDRESS", ("", 0))[1]
    if "UNIT_STORE_PORT" not in raw and probes == MAX_PORT:
        yield (
            f"{_describe_value(raw, 'UNIT_HTTP_ADDRESS')}: the port must be below {MAX_PORT}, "
            "since the store at rank 0 listens one port above; lower it, set UNIT_STORE_PORT on all ranks, "
            "or set UNIT_REDIS_URL to an external store"
        )
    for name, taken in (
        ("UNIT_HTTP_ADDRESS", probes),
        ("UNIT_TRAFFIC_PORT", parsed.get("UNIT_TRAFFIC_PORT")),
    ):
        if port is not None and port == taken:
            yield (
                f"{_describe_value(raw, 'UNIT_STORE_PORT')} with {_describe_value(raw, name)}: the ports "
                "must differ; set UNIT_STORE_PORT to another port, on all ranks"
            )
