"""The settings in the form that the core needs.

The invariant: a field of :class:`unitagent.core.config.CoreConfig` has the name, type and default of the
field of :class:`unitagent.settings.Settings` that it comes from; the others are computed here, and nowhere
else.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import fields

from unitagent.core.config import CoreConfig
from unitagent.core.model import Record
from unitagent.settings import Settings

_KEEPER_FAILURES = {"vllm": "relaunch"}  # an engine that goes on serving; others end with their keeper


def may_be_replaced(settings: Settings) -> bool:
    """Whether a spare may have taken the rank of this instance; with an embedded store there is none."""
    return settings.spares > 0 and not settings.has_embedded_store


def build_core_config(
    settings: Settings, me: Record, *, health: bool, failure_grace: float | None = None, framework: str = ""
) -> CoreConfig:
    """Return the core's settings of the agent with this record.

    Args:
        settings: all that the user has set.
        me: the agent's own record.
        health: rank 0 has a health check.
        failure_grace: seconds from SIGTERM to SIGKILL after a failure; None for the setting's.
        framework: that has completed the command; its keeper's death ends the engine, or does not.

    """
    computed: dict[str, Any] = {
        "rank": me.rank,
        "incarnation": me.incarnation,
        "probes": settings.http_port != 0,
        "health": health,
        "claimed": settings.rank is None or may_be_replaced(settings),
        "failure_grace": failure_grace,
        "owns_store": me.rank == 0 and settings.has_embedded_store,
        "keepers": settings.keeper is not None,
        "relaunch": (settings.keeper_failure or _KEEPER_FAILURES.get(framework)) == "relaunch",
        "epoch": time.time() - time.monotonic(),
    }
    names = [field.name for field in fields(CoreConfig) if field.name not in computed]
    return CoreConfig(**computed, **{name: getattr(settings, name) for name in names})
