"""Short ways to make what a Unit announces."""

from __future__ import annotations

from unitagent.store.protocol import Endpoint, RegistryRecord, RegistrySnapshot


def entry(unit: str = "u", **others: object) -> Endpoint:
    given = {
        "service": unit,
        "incarnation": "a",
        "generation": 1,
        "ip": "10.0.0.1",
        "port": 8000,
        "probe_port": 9470,
        "traffic": True,
        "lease": 5.0,
    }
    return Endpoint(unit=unit, **given | others)  # type: ignore[arg-type]


def sights(now: float, *seen: tuple[float, Endpoint]) -> RegistrySnapshot:
    """What a store tells at its ``now``."""
    return RegistrySnapshot(now, {one.unit: RegistryRecord(at, one) for at, one in seen})
