"""``/processes``: what each process of the workload uses, as an answer that takes a thread to make.

The invariant: however many clients ask, one sample is taken at a time, and at most one a second.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Sample = list[dict[str, Any]]

PATH = "/processes"
_KEPT = 1.0  # seconds that a sample is reused


class ProcessList:
    """The newest sample, shared by all clients.

    Args:
        sample: reads the usage of the workload's processes.

    """

    def __init__(self, sample: Callable[[], Coroutine[Any, Any, Sample]]) -> None:
        self._sample = sample
        self._sampling: asyncio.Task[Sample] | None = None
        self._begun = -math.inf

    async def read(self) -> Sample:
        """Return what each process uses, as of a second ago at most; a client that leaves stops nothing."""
        now = asyncio.get_running_loop().time()
        if self._sampling is None or (self._sampling.done() and now - self._begun > _KEPT):
            self._sampling, self._begun = asyncio.create_task(self._sample()), now
        sampling = self._sampling
        await asyncio.wait([sampling])
        return sampling.result()

    def close(self) -> None:
        """Stop waiting for a sample."""
        if self._sampling is not None:
            self._sampling.cancel()
