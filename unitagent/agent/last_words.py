"""The last output of a workload, kept in the store beside the failure that it explains.

The invariant: of one generation the output kept is that of the failure kept. Who failed first is known only
when the store has said so, hence nothing is written before; and who merely followed writes nothing. What
looks like a secret in it is masked, for all who read the store, or the Unit's status, can read it.
"""

from __future__ import annotations

import logging

from unitagent.core.state import State
from unitagent.errors import StoreError
from unitagent.store.protocol import Store, WorkloadOutput
from unitagent.system import redaction

_log = logging.getLogger(__name__)


class FailureOutput:
    """Of one instance's workloads, one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._generation = 0
        self._lines: list[str] = []

    def remember_tail(self, generation: int, lines: list[str]) -> None:
        """The workload of this generation has ended; these were its last lines."""
        self._generation, self._lines = generation, lines

    def take_output(self, state: State) -> WorkloadOutput | None:
        """The lines, once, when the store keeps a failure as its first one that they belong to."""
        failure, lines = state.recovery.failure, self._lines
        if failure is None or not lines or not state.recovery.failure_stored:
            return None
        if (failure.generation, failure.rank) != (self._generation, state.config.rank):
            return None
        self._lines = []
        return WorkloadOutput(
            generation=failure.generation, rank=failure.rank, lines=tuple(map(redaction.redact_text, lines))
        )

    async def store_output(self, output: WorkloadOutput) -> None:
        """Write them."""
        try:
            await self._store.put_output(output.generation, output.rank, output.lines)
        except StoreError as error:
            _log.debug("the workload's last lines could not be stored: %s", error)
