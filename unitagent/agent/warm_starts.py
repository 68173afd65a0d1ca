"""When an instance prepares the gate for its next warm start (``workload.warm_start`` says what that is), and
whether the last warm start has proven itself.

The invariant: nothing is built while the workload starts, which needs the machine; once the Unit is ready,
the imports run at a low priority where the kernel allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unitagent.core.probe_answers import is_ready
from unitagent.system.threads import run_in_thread_or_here

if TYPE_CHECKING:
    from unitagent.agent.launch import Launch
    from unitagent.core.state import State
    from unitagent.workload.warm_start import WarmStarter

_KINDS = {True: "warm", False: "cold"}
_FIRST_SECONDS = 120.0  # a start that imports for longer is not worth the wait


class WarmStartScheduler:
    """Follows the generations of one instance."""

    def __init__(self, starter: WarmStarter) -> None:
        self.starter = starter
        self._ready = 0  # the last generation that has been ready
        self._starting = False
        self._failed = 0  # the last one that this instance ended by a failure of its own

    async def prepare_first(self, launch: Launch) -> None:
        """Wait until the first start can be warm, or never will be."""
        self.starter.prepare(launch.argv, launch.env, launch.warm_modules)
        await self.starter.wait_until_settled(_FIRST_SECONDS)

    def observe_step(self, state: State, launch: Launch | None) -> None:
        """Prepare the next start once the Unit is ready; note a failure before that."""
        generation = state.me.generation
        self._starting = launch is not None and self._ready != generation
        if launch is None or self._ready == generation:
            return
        failure = state.recovery.failure
        if failure is not None and failure.generation == generation != self._failed:
            self._failed = generation
            if failure.rank == state.config.rank:
                self.starter.note_failure()
        elif is_ready(state):
            self._ready = generation
            self.starter.confirm_ready()
            self.starter.prepare(launch.argv, launch.env, launch.warm_modules)

    async def learn_environment(self, list_pids: Callable[[], list[int]]) -> None:
        """Look at the environment of the processes that a cold start has started, while it starts."""
        report = self.starter.report
        if report is not None and not report.warm and self._starting:
            self.starter.observe_children(await run_in_thread_or_here(list_pids))

    def report_start(self, rank: int) -> dict[str, Any] | None:
        """How the last start was made and the next one would be, and why; None before the first."""
        report = self.starter.report
        if report is None:
            return None
        why = self.starter.explain_next()
        following = f"cold: {why}" if why else "warm"
        return {
            "kind": _KINDS[report.warm],
            "why": report.why,
            "fork_seconds": report.fork_seconds,
            "saved_seconds": report.saved_seconds,
            "late_imports": self.starter.count_late_imports(),
            "next": {"kind": _KINDS[not why], "why": why},
            "message": f"rank {rank} started {report.describe()}; its next start is {following}",
        }

    def close(self) -> None:
        """End what was built."""
        self.starter.close()
