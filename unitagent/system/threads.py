"""Blocking calls (DNS, files) outside the event loop, in daemon threads.

``SingleFlight`` makes one call of a kind at a time, shared by all who wait for it. A caller that gives up
leaves the call running, and the next one gets its answer: a slow call only delays, and hung calls do not
pile up.

The invariants: no answer is kept for long, since a name may move and a file may be rewritten; and no thread
delays the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

_QUICK = 0.3  # seconds; an answer that took no longer is given to those who wait for it, and never again
_REUSE = 2  # a slower answer may be reused for this many times as long as it took
_KEEP = 30.0  # seconds at most, also for an answer that nobody waited for


def start_daemon_thread(work: Callable[[], object], name: str | None = None) -> None:
    """Start a thread that does not keep the process from ending.

    Raises:
        OSError: the machine has no thread left; it may have one at the next try.

    """
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error


async def run_in_daemon_thread(work: Callable[[], T], name: str | None = None) -> T:
    """Run blocking ``work`` in a thread of its own and return its result, or raise its error.

    Not in the loop's pool: it would queue behind slow DNS lookups there, and the interpreter waits for its
    threads at the end, also for one that hangs in ``/proc/PID/maps`` because a driver does. Cancelling gives
    up waiting, not the work.

    Raises:
        OSError: no thread is available.

    """
    return await _start_work(work, name)


async def run_in_thread_or_here(work: Callable[[], T]) -> T:
    """Run blocking ``work`` in a thread of its own, or in the event loop if no thread is available (a fork
    bomb): stopping a workload matters more than a responsive loop. Return its result, or raise its error.
    """
    try:
        done = _start_work(work)
    except OSError:
        return work()
    return await done


def _start_work(work: Callable[[], T], name: str | None = None) -> asyncio.Future[T]:
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    start_daemon_thread(lambda: _run_work(work, done), name)
    return done


def _run_work(work: Callable[[], T], done: asyncio.Future[T]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001  # it belongs to the caller, whatever it is
        _settle_future(done, done.set_exception, error)
    else:
        _settle_future(done, done.set_result, result)


def _settle_future(done: asyncio.Future[T], setter: Callable[..., None], value: object) -> None:
    def settle() -> None:
        if not done.done():
            setter(value)

    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        done.get_loop().call_soon_threadsafe(settle)


@dataclass(slots=True)
class _Flight:
    """One call, under way or answered."""

    answer: Future[Any] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)
    landed: float = math.inf
    taken: bool = False

    def run_call(self, call: Callable[[], Any]) -> None:
        """Make the call, in a thread."""
        self.answer.set_running_or_notify_cancel()  # from here on no caller that gives up can cancel it
        try:
            result = call()
        except Exception as error:  # noqa: BLE001  # it belongs to the caller, whatever it is
            self.landed = time.monotonic()
            self.answer.set_exception(error)
        else:
            self.landed = time.monotonic()
            self.answer.set_result(result)

    def may_serve(self, now: float) -> bool:
        """Whether another caller may have its answer, there already or still to come."""
        if not self.answer.done():
            return True
        age, took = now - self.landed, self.landed - self.began
        again = took > _QUICK and age < _REUSE * took and self.answer.exception() is None
        return age < _KEEP and (again or not self.taken)


class SingleFlight:
    """Calls by key; callers of one that is under way wait for the same answer."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def run(self, key: Hashable, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, or raise what it raises.

        Raises:
            OSError: no thread is available.

        """
        flight = self._flights.get(key)
        if flight is None or not flight.may_serve(time.monotonic()):
            flight = self._flights[key] = _start_flight(call)
        try:
            answer: T = await asyncio.wrap_future(flight.answer)
        finally:
            flight.taken = flight.taken or flight.answer.done()
        return answer

    def is_under_way(self, key: Hashable) -> bool:
        """Whether this call has yet to end."""
        flight = self._flights.get(key)
        return flight is not None and not flight.answer.done()


def _start_flight(call: Callable[[], Any]) -> _Flight:
    flight = _Flight()
    start_daemon_thread(lambda: flight.run_call(call))
    return flight
