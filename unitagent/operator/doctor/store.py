"""The store as an agent would find it: how far it is, what it permits, and what time it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unitagent.errors import StoreError
from unitagent.operator.doctor.findings import Finding, fail, ok, warn

_MOST_OF_TIMEOUT = 0.25  # a store that needs more of an operation's time leaves no room for a bad moment
_FAR_APART = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class RefusedCommands:
    """Commands that a store refuses for one reason."""

    commands: tuple[str, ...]
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class StoreAnswers:
    """What a store answered.

    Attributes:
        place: the server, for people.
        seconds: of each round trip.
        ahead: seconds by which its clock is before ours; negative when it is behind.
        refused: what it did not do.

    """

    place: str
    seconds: Sequence[float]
    ahead: float
    refused: Sequence[RefusedCommands] = ()


def judge_store(asked: StoreAnswers, timeout: float) -> Iterator[Finding]:
    """Judge the answers; ``timeout`` is what one operation of an agent may take, in seconds."""
    yield _judge_latency(asked, timeout)
    yield _judge_rights(asked)
    yield _judge_clock(asked)


def _judge_latency(asked: StoreAnswers, timeout: float) -> Finding:
    usual = sorted(asked.seconds)[len(asked.seconds) // 2]
    said = f"{asked.place} answers after {usual * 1000:.1f} ms"
    if usual > timeout * _MOST_OF_TIMEOUT:
        remedy = "use a nearer store, or raise UNIT_LEASE_SECONDS"
        return warn("store", f"{said}, and an agent waits {timeout:g} s at most", remedy)
    return ok("store", said)


def _judge_rights(asked: StoreAnswers) -> Finding:
    if asked.refused:
        said = "; ".join(f"{', '.join(one.commands)}: {one.what}" for one in asked.refused)
        remedies = dict.fromkeys(one.remedy for one in asked.refused if one.remedy)
        return fail("rights", said, "; ".join(remedies) or "see what the server's log says")
    return ok("rights", "all that is needed is permitted")


def _judge_clock(asked: StoreAnswers) -> Finding:
    if abs(asked.ahead) < _FAR_APART:
        return ok("clock", f"agrees with the store's within {abs(asked.ahead) * 1000:.0f} ms")
    way = "behind" if asked.ahead > 0 else "ahead of"
    said = f"this machine's is {abs(asked.ahead):.1f} s {way} the store's: times of logs will not match"
    return warn("clock", f"{said} (leases do not depend on it)", "let NTP or chrony set it")


def judge_store_error(trouble: StoreError, *, elsewhere: bool) -> Finding:
    """Judge a store that could not be asked; ``elsewhere`` when it is rank 0's own, which may start later."""
    if elsewhere:
        remedy = "start rank 0, and let its store's port (UNIT_STORE_PORT, or one above its probes') through"
        return warn("store", f"{trouble.what}; it is there as soon as rank 0 runs", remedy)
    default = "start it, correct UNIT_REDIS_URL, or let its port through"
    return fail("store", trouble.what, trouble.remedy or default)


def judge_embedded(place: str, refusal: str, *, open_to_all: bool) -> Finding:
    """Judge the store that rank 0 is going to run, unless it refuses to."""
    said = f"this is rank 0 and runs the store at {place}"
    remedy = "set UNIT_SECRET_FILE or UNIT_SECRET to the same value on all ranks"
    if refusal:
        return fail("store", refusal, remedy)
    if open_to_all:
        return warn("store", f"{said}, without a password: whoever reaches it can disturb the Unit", remedy)
    return ok("store", said)
