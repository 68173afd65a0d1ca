"""What agents say of their Unit, at their probe addresses.

The invariant: an answer is shown, and nothing is done because of it; one that is none counts as none.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

from unitagent.operator.probe import reachable

_ASK = 2.0  # seconds for an answer
_LONGEST = 4 << 20  # bytes of one: a Unit of 1024 has a quarter of that
_STEP = (int, float, type(None))


def seen(host: str, port: int) -> dict[str, Any] | None:
    """What ``/status`` says there; None when no agent answers. Blocks."""
    connection = http.client.HTTPConnection(reachable(host), port, timeout=_ASK)
    try:
        connection.request("GET", "/status")
        found = json.loads(connection.getresponse().read(_LONGEST))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()
    return found if isinstance(found, dict) and isinstance(found.get("instances"), list) else None


def known_to_agents_only(unit: str, host: str, port: int) -> dict[str, Any]:
    """``guard`` and ``recovery`` of this Unit, as an agent of it says; empty when none answers. Blocks."""
    found = seen(host, port) or {}
    guard, recovery = found.get("guard"), found.get("recovery")
    fits = isinstance(recovery, dict) and all(isinstance(took, _STEP) for took in recovery.values())
    if found.get("unit") != unit or not isinstance(guard, bool) or not fits:
        return {}
    return {"guard": guard, "recovery": recovery}
