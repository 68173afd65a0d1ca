"""All durations of the protocol, derived from the two that a user sets: the lease and the heartbeat.

The inequalities that the guarantees rest on are asserted here, where the numbers are made. A pair that cannot
keep them is refused: :func:`explain_bad_pair` names the nearest pair that can. Nothing is adjusted silently.

Proof sketch. Let *L* be the lease, *H* the heartbeat, and let a healthy store answer well within a second.

*Detect within L + 1.* A member that dies wrote its last beat before that. The store tells how long ago it
got the beat, by its own clock; a reader that looks once per *H* trusts this only within the time since its
last look (:mod:`leases`), so it knows when the beat was written, and not only when it was seen. It begins
to ask the member at ``ask_after``, and the answer, or its absence, takes ``peer_timeout``: both are over by
*L*. The reader looks at the store once more when the lease ends, at most one ``tick`` late.

*Isolate within L + 2.* An agent loses all contact right after an answer of the store. Its next exchange
begins *H* and a ``tick`` later and fails within ``operation_timeout``. A question to each peer that could
vouch for it begins within ``ask_every`` of that, and its silence is known ``peer_timeout`` later. The sum
stays below L + 1.5, and the decision needs one ``tick`` more.

*Take over after that.* A newcomer has to see the beat of a silent holder stand still for ``takeover`` = L +
2, and a thousandth of what L has above 300 s, since two clocks may differ: on its own clock and from its own
first look on, which is later than the holder's last contact. Only for a holder that rank 0 has vouched for
since is it not: that one has its lease and two seconds from that word on, as is promised to whoever reaches
rank 0, and hears from rank 0 that its generation is over.

*Judge at all.* Two answers of a healthy store are at most ``contact_gap`` apart. A longer pause means that
the reader itself stood still, and its evidence begins anew. The gap is shorter than the lease, so a lease
can run out within unbroken contact.
"""

from __future__ import annotations

from msgspec import Struct

LEAST_LEASE, LEAST_HEARTBEAT = 1.0, 0.2  # seconds; below these a busy machine's own delays decide
BEATS = 2.0  # heartbeats that fit into a lease, so that one may be lost

_LONGEST_TICK = 0.25  # seconds
_LONGEST_OPERATION = 5.0
_LONGEST_QUESTION = 2.0
_SLACK = 1e-9
_CALM, _DRIFT = 300.0, 1e-3  # from that lease on, two clocks that are set right by 500 ppm each count


class Timing(Struct, frozen=True, kw_only=True):
    """Durations in seconds. ``Timing.from_lease`` makes one; see the module for why they fit together.

    Attributes:
        tick: the longest that a decision may be late because the agent looks at the clock only so often.
        operation_timeout: for one operation of the store, connecting included.
        peer_timeout: for one question to a peer.
        beat_due: silence in the store after which a beat is missing, so that a refusal is its agent's end and
            no firewall's.
        ask_after: silence in the store after which a member is asked for its own word.
        ask_every: pause between two questions to the same peer.
        out_of_touch: silence of the store itself after which the peers are asked.
        contact_gap: the longest pause between two answers of the store that is unbroken contact.
        watchdog: after the last contact, when the watchdog kills the workload of an agent that hangs.
        takeover: silence after which a newcomer may take a rank from a holder that does not answer.

    """

    lease: float
    heartbeat: float
    tick: float
    operation_timeout: float
    peer_timeout: float
    beat_due: float
    ask_after: float
    ask_every: float
    out_of_touch: float
    contact_gap: float
    watchdog: float
    takeover: float

    @classmethod
    def from_lease(cls, lease: float, heartbeat: float) -> Timing:
        """Derive all durations; the pair must be one that ``explain_bad_pair`` accepts.

        Raises:
            ValueError: the pair cannot keep the guarantees.

        """
        if problem := explain_bad_pair(lease, heartbeat):
            raise ValueError(problem)
        spare = lease - heartbeat
        tick = min(_LONGEST_TICK, heartbeat / 4, spare / 10)
        operation = min(_LONGEST_OPERATION, 0.45 * spare)
        question = min(_LONGEST_QUESTION, spare / 2)
        patience = max(1.5 * heartbeat, lease - 3 * heartbeat)
        timing = cls(
            lease=lease,
            heartbeat=heartbeat,
            tick=tick,
            operation_timeout=operation,
            peer_timeout=question,
            beat_due=heartbeat + 2 * tick,
            ask_after=min(patience, lease - question - tick),
            ask_every=min(heartbeat, spare / 4),
            out_of_touch=min(1.5 * heartbeat, lease - question - tick),
            contact_gap=heartbeat + operation + 2 * tick,
            watchdog=lease + 1.0,
            takeover=takeover_after(lease),
        )
        timing.assert_guarantees()
        return timing

    @property
    def relay_patience(self) -> float:
        """Age of the last word of rank 0, or of the store, after which an agent that is told of rank 0 by
        another asks it itself: early enough to know its silence when the lease ends.
        """
        return self.lease - self.ask_every - self.peer_timeout - self.tick

    @property
    def longest_isolation(self) -> float:
        """From the loss of all contact to the decision to stop, in the worst case."""
        known = self.heartbeat + self.operation_timeout + self.ask_every + self.peer_timeout + 2 * self.tick
        return max(self.lease, known) + self.tick

    @property
    def longest_detection(self) -> float:
        """From a member's last beat to the decision that it is lost, beside what the store's answer takes."""
        return max(self.lease, self.ask_after + self.peer_timeout) + self.tick

    def assert_guarantees(self) -> None:
        """Assert what the guarantees rest on, in words."""
        kept = {
            "a member's death is detected within the lease and a second": self.longest_detection
            <= self.lease + 1,
            "a member is asked only when its heartbeat is late": self.ask_after >= self.heartbeat + self.tick,
            "a heartbeat is missing before the lease ends": self.beat_due + self.tick <= self.lease,
            "its silence is known when its lease ends": self.ask_after + self.peer_timeout <= self.lease,
            "an isolated agent decides within the lease and 1.75 seconds": self.longest_isolation
            <= self.lease + 1.75 + _SLACK,
            "the watchdog leaves a second to kill before a takeover": self.watchdog + 1 <= self.takeover,
            "unbroken contact can last for a lease": self.contact_gap < self.lease,
            "two operations and a heartbeat fit into the lease": self.heartbeat + 2 * self.operation_timeout
            < self.lease,
            "a tick is small against all": self.tick <= min(self.heartbeat, self.lease - self.heartbeat) / 4,
        }
        for words, holds in kept.items():
            assert holds, f"{words}: not so for {self}"  # noqa: S101  # a defect of this module


def takeover_after(lease: float) -> float:
    """Return the seconds of silence after which a rank may be taken from a holder with this lease."""
    return lease + 2.0 + max(0.0, lease - _CALM) * _DRIFT


def explain_bad_pair(lease: float, heartbeat: float) -> str:
    """Say what is wrong with a pair, and name the nearest one that is accepted; "" when nothing is."""
    if _is_accepted(lease, heartbeat):
        return ""
    near_lease, near_heartbeat = nearest_pair(lease, heartbeat)
    return (
        f"the lease must be at least {LEAST_LEASE:g} s and at least two heartbeats, the heartbeat at least "
        f"{LEAST_HEARTBEAT:g} s; the nearest pair that can keep the guarantees is "
        f"UNIT_LEASE_SECONDS={near_lease:.12g} with UNIT_HEARTBEAT_SECONDS={near_heartbeat:.12g}"
    )


def _is_accepted(lease: float, heartbeat: float) -> bool:
    return lease >= max(LEAST_LEASE, BEATS * heartbeat) and heartbeat >= LEAST_HEARTBEAT


def nearest_pair(lease: float, heartbeat: float) -> tuple[float, float]:
    """Return the accepted pair nearest to this one: the lease is kept where it can be."""
    if _is_accepted(lease, heartbeat):
        return lease, heartbeat
    near_lease = max(lease, LEAST_LEASE)
    near = float(f"{max(min(heartbeat, near_lease / BEATS), LEAST_HEARTBEAT):.6g}")  # as people read it
    return max(near_lease, BEATS * near), near
