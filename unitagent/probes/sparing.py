"""Answers that cost much, made a few times a second and given to all who ask meanwhile.

The invariant: what a probe asks is answered as of now; only what is read, and not acted on, may be as old as
``KEPT``.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from unitagent.core.probe_answers import ProbeAnswer
    from unitagent.probes.answers import Answers

T = TypeVar("T")
KEPT = 0.2  # seconds


class Sparing:
    """The answers of an agent, for those who may ask as often as they like."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._made: dict[str, tuple[float, Any]] = {}

    def live(self) -> ProbeAnswer:
        """Answer ``/livez``."""
        return self._answers.live()

    def ready(self) -> ProbeAnswer:
        """Answer ``/readyz``."""
        return self._answers.ready()

    def traffic(self) -> ProbeAnswer:
        """Answer ``/traffic``."""
        return self._answers.traffic()

    def startup(self) -> ProbeAnswer:
        """Answer ``/startupz``."""
        return self._answers.startup()

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows, or showed a moment ago."""
        return self._kept("status", self._answers.status)

    def report(self) -> dict[str, Any]:
        """Return what this instance says of itself alone, as of now: it is little."""
        return self._answers.report()

    def is_ready(self) -> bool:
        """Tell whether the whole Unit serves, or did a moment ago."""
        return self._kept("ready", self._answers.is_ready)

    def metrics(self) -> bytes:
        """Return Prometheus text, or that of a moment ago."""
        return self._kept("metrics", self._answers.metrics)

    def identity(self) -> tuple[str, int, str]:
        """Return the Unit, the rank and the incarnation."""
        return self._answers.identity()

    def dashboard(self) -> str:
        """Return what the page at ``/`` shows."""
        return self._answers.dashboard()

    def peers(self) -> Collection[str]:
        """Return the addresses of the Unit's instances, or those of a moment ago."""
        return self._kept("peers", self._answers.peers)

    def _kept(self, name: str, make: Callable[[], T]) -> T:
        now = time.monotonic()
        at, made = self._made.get(name, (-math.inf, None))
        if now - at > KEPT:
            made = make()
            self._made[name] = now, made
        return cast(T, made)
