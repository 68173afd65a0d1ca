"""Which Units take traffic, as far as the store can show.

The invariant: a Unit leaves the list when it says so, or when it has been silent for its lease *while the
store was reachable*. A store that was unreachable, or came back empty, removes no Unit. Where records are
signed, a replayed one is ignored: it is older than the last one seen, or older than its lease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitagent.store.protocol import RegistryRecord

if TYPE_CHECKING:
    from unitagent.store.protocol import Endpoint, RegistrySnapshot


@dataclass(frozen=True, slots=True)
class _Seen:
    """A Unit's last record, and when it last changed, by our own clock."""

    record: RegistryRecord
    moved: float

    def is_alive(self, now: float) -> bool:
        return now - self.moved <= self.record.entry.lease


class EndpointTracker:
    """The Units seen so far; ``now`` is always in seconds of our own monotonic clock.

    Args:
        service: the only service to follow; None for all.

    """

    def __init__(self, service: str | None = None) -> None:
        self._service = service
        self._seen: dict[str, _Seen] = {}
        self._held: frozenset[str] | None = None  # Units alive when the store became unreachable
        self._there = 0.0  # the server's clock at the last read

    def observe_registry(self, snapshot: RegistrySnapshot, now: float) -> tuple[Endpoint, ...]:
        """Record the store's content and return the Units that take traffic, sorted by name."""
        self._follow_clock(snapshot)
        for unit, record in snapshot.units.items():
            if not (snapshot.proven and self._is_put_back(record, snapshot.now)):
                self._seen[unit] = self._update_entry(self._seen.get(unit), record, snapshot.now, now)
        for unit in self._held or ():
            self._seen[unit] = replace(self._seen[unit], moved=now)
        self._held = None
        self._seen = {unit: seen for unit, seen in self._seen.items() if seen.is_alive(now)}
        entries = (self._seen[unit].record.entry for unit in sorted(self._seen))
        return tuple(one for one in entries if one.traffic and self._service in (None, one.service))

    def note_outage(self, now: float) -> None:
        """Record that the store is unreachable; Units alive now get a full lease when it is back."""
        if self._held is None:
            self._held = frozenset(unit for unit, seen in self._seen.items() if seen.is_alive(now))

    def _follow_clock(self, snapshot: RegistrySnapshot) -> None:
        """If the server's clock was set back, cap the times of earlier records to it."""
        if snapshot.proven and snapshot.now < self._there:
            for unit, seen in self._seen.items():
                record = RegistryRecord(min(seen.record.at, snapshot.now), seen.record.entry)
                self._seen[unit] = replace(seen, record=record)
        self._there = snapshot.now

    def _is_put_back(self, record: RegistryRecord, there: float) -> bool:
        """Whether a record is older than the last one seen, or signed while the clock was far ahead."""
        former = self._seen.get(record.entry.unit)
        return (former is not None and record.at < former.record.at) or record.at > there + record.entry.lease

    def _update_entry(self, former: _Seen | None, record: RegistryRecord, there: float, now: float) -> _Seen:
        """A changed record proves life; the age of a new one follows from the server's clock."""
        if former is None:
            return _Seen(record, now - max(0.0, there - record.at))
        return _Seen(record, former.moved if record.at == former.record.at else now)
