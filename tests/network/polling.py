"""A load balancer with sharp eyes: it asks every rank of a lab again and again whether the Unit is ready."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from tests.network.lab import Lab
from tests.waiting import until

PAUSE = 0.03  # seconds


class Polled:
    """Polls ``/readyz`` on all hosts for the time of a ``with`` block.

    Attributes:
        odd: every answer that was not 200: seconds since the begin, host, code and why.

    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._closing = threading.Event()
        self._asked = [0] * lab.size
        self._threads = [
            threading.Thread(target=self._poll, args=(host,), daemon=True) for host in range(lab.size)
        ]
        self._began = time.monotonic()
        self.odd: list[tuple[float, int, int, str]] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: all(self._asked), "every rank has been asked")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        until(lambda: not any(thread.is_alive() for thread in self._threads), "nobody polls any more")

    def _poll(self, host: int) -> None:
        while not self._closing.wait(PAUSE):
            code, body = self._lab.agents[host].get("/readyz")
            self._asked[host] += 1
            if code != 200:
                self.odd.append((round(time.monotonic() - self._began, 2), host, code, body.strip()))
