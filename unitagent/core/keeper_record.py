"""What the records of the agents say about keepers (:mod:`keepers`)."""

from __future__ import annotations

from msgspec import Struct


class KeeperRecord(Struct, frozen=True, kw_only=True):
    """What one agent publishes about its keeper (:mod:`keepers`).

    Attributes:
        gang: Id of the gang with which it started; empty if no process of a keeper is left.
        ready: It holds what the workload needs.

    """

    gang: str = ""
    ready: bool = False
