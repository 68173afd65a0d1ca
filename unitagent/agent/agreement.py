"""Whether all ranks have the same secrets, while one takes the place of another: each step of a change has
to wait until all have made the one before.

The invariant: it is told of what the ranks' records prove, and never guessed. Nothing waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from unitagent.agent.loop import Agent
from unitagent.core.model import format_ranks
from unitagent.store.redis_store import RedisStore
from unitagent.system.keyring import Keyring

_log = logging.getLogger(__name__)


class SecretAgreement:
    """Makes an agent's change of its keys known at once, and tells when all ranks have made the same."""

    def __init__(self, agent: Agent, store: RedisStore, keys: Keyring) -> None:
        self._agent, self._store, self._keys = agent, store, keys
        self._edition = keys.edition
        self._is_reported = True
        self._strangers: frozenset[int] = frozenset()

    async def check_agreement(self) -> None:
        """Look whether the keys have changed, here or elsewhere."""
        self._warn_of_strangers()
        if self._edition != self._keys.edition:
            self._edition = self._keys.edition
            self._is_reported = False
            self._agent.request_exchange()  # my record, signed anew, before anybody waits for it
        elif self._store.unlike:
            self._is_reported = False
        elif not self._is_reported and self._store.unlike is not None and self._has_all_records():
            self._is_reported = True
            _log.info("all ranks of this Unit accept the same secrets now (%d)", len(self._keys))

    def report_status(self) -> dict[str, Any] | None:
        """As ``/status`` has it; None where there is no secret."""
        if not self._keys:
            return None
        unlike = self._store.unlike
        return {
            "accepted": len(self._keys),
            "differing": None if unlike is None else sorted(unlike),
            "strangers": sorted(self._store.foreign),
        }

    def _warn_of_strangers(self) -> None:
        """Say it when a step was made before all ranks had made the one before."""
        strangers, self._strangers = self._strangers, self._store.foreign
        if self._strangers - strangers:
            _log.warning("%s", _explain_strangers(sorted(self._strangers), self._agent.state.config.rank))

    def _has_all_records(self) -> bool:
        """Whether the store has a record of each rank: of one that has yet to come nobody knows."""
        state = self._agent.state
        return len(state.store.records.keys() | {state.config.rank}) == state.config.size


def _explain_strangers(strangers: Sequence[int], mine: int) -> str:
    has = "has" if len(strangers) == 1 else "have"
    return (
        f"{format_ranks(strangers)} {has} no secret in common with rank {mine}: what runs goes on, but they will "
        "not meet at the next barrier; add the secrets of the others to UNIT_SECRET_FILE, and take the "
        "former one out only when all ranks have both"
    )
