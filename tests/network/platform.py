"""What a platform does: it builds every container anew that ends with 75."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from tests.network.lab import Lab
from tests.waiting import DEADLINE, until

REBUILD = 75


class Platform:
    """Looks after the containers of a lab for the time of a ``with`` block; those that it built end with it,
    since they are on the leash of its thread.

    Attributes:
        codes: with which code each life on a host ended, oldest first.

    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._former = [one for one in lab.agents.values() if not one.running]  # not this platform's
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True)
        self.codes: dict[int, list[int]] = {host: [] for host in range(lab.size)}

    def given_up(self, hosts: tuple[int, ...], deadline: float = DEADLINE) -> None:
        """Wait until each of these has ended with something else."""
        self._lab.until(
            lambda: all({*self.codes[host]} - {REBUILD} for host in hosts), "they give up", deadline
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        until(lambda: not self._thread.is_alive(), "the platform rests")

    def _look_after(self) -> None:
        gone = {id(container) for container in self._former}
        while not self._closing.wait(0.02):
            for host, container in [*self._lab.agents.items()]:
                if id(container) in gone or container.running:
                    continue
                gone.add(id(container))
                code = container.code()
                if code == REBUILD:
                    self._lab.rebuild(host)
                self.codes[host].append(code)
