"""What each process of the workload uses, for ``/processes`` and ``/metrics``; a sample takes a thread.

The invariant: however many clients ask, one sample is taken at a time, at most one a second, and sampling
takes at most a twentieth of a core. Nothing is sampled unless somebody asks.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from unitagent.probes.answers import ProcessFields

    Sample = Sequence[ProcessFields]

_REUSE = 1.0  # seconds for which a sample is reused at least
_REST = 20  # times as long as the last sample took, for which it is reused as well


class ProcessSampler:
    """The newest sample, shared by all clients.

    Args:
        sample: reads the usage of the workload's processes.

    """

    def __init__(self, sample: Callable[[], Coroutine[None, None, Sample]]) -> None:
        self._sample = sample
        self._sampling: asyncio.Task[Sample] | None = None
        self._expires = -math.inf

    async def read(self) -> Sample:
        """Return what each process uses, as of a moment ago; a client that leaves stops nothing."""
        now = asyncio.get_running_loop().time()
        if self._sampling is None or (self._sampling.done() and now > self._expires):
            self._sampling = asyncio.create_task(self._take_sample())
        sampling = self._sampling
        await asyncio.wait([sampling])
        return sampling.result()

    async def _take_sample(self) -> Sample:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            return await self._sample()
        finally:
            self._expires = begun + max(_REUSE, _REST * (loop.time() - begun))

    def close(self) -> None:
        """Stop waiting for a sample."""
        if self._sampling is not None:
            self._sampling.cancel()
