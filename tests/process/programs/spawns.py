"""Spawns children by multiprocessing in the way that its argument names."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CONTEXT = multiprocessing.get_context("spawn")


def add(queue: Any, *numbers: int) -> None:
    queue.put((sum(numbers), os.getppid()))


def nest(queue: Any, *numbers: int) -> None:
    queue.put((spawn(add, *numbers), os.getppid()))


def spawn(target: Callable[..., None], *numbers: int) -> int:
    """Let a child add, which must be ours."""
    queue = CONTEXT.SimpleQueue()
    child = CONTEXT.Process(target=target, args=(queue, *numbers))
    child.start()
    total, parent = queue.get()
    child.join()
    assert (child.exitcode, parent) == (0, os.getpid())
    return int(total)


def spawn_from_threads() -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(spawn(add, n, 1))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1, 2, 3, 4, 5, 6], results


def spawn_a_pool() -> None:
    with ProcessPoolExecutor(8, mp_context=CONTEXT) as pool:
        assert list(pool.map(abs, range(-64, 0))) == list(range(64, 0, -1))


def hand_on_many() -> None:
    pipes = [CONTEXT.Pipe() for _ in range(150)]
    child = CONTEXT.Process(target=len, args=([end for pair in pipes for end in pair],))
    child.start()
    child.join()
    assert child.exitcode == 0


def signal_template(number: int) -> None:
    """Signal the only child of this process."""
    pid = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text())
    while Path(f"/proc/{pid}/comm").read_text() != "unit-template\n":
        time.sleep(0.01)  # it has just been forked
    os.kill(pid, number)
    time.sleep(0.2)


def spawn_after(prepare: Callable[[], object]) -> None:
    prepare()
    assert spawn(add, 2, 3) == 5


def spawn_from_fork(prepare: Callable[[], object] = int) -> None:
    pid = os.fork()
    if pid == 0:
        spawn_after(prepare)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def live_on() -> None:
    signal_template(signal.SIGKILL)
    sys.stdout.write("killed\n")
    sys.stdout.flush()
    time.sleep(99)


def wait_with_child() -> None:
    CONTEXT.Process(target=time.sleep, args=(99,)).start()
    time.sleep(0.3)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(99)


WAYS: dict[str, Callable[[], object]] = {
    "threads": spawn_from_threads,
    "pool": spawn_a_pool,
    "nested": lambda: spawn(nest, 1, 2),
    "many": hand_on_many,
    "elsewhere": lambda: spawn_after(lambda: os.dup2(os.open("/dev/null", os.O_WRONLY), 1)),
    "preload": lambda: spawn_after(lambda: os.environ.__setitem__("LD_PRELOAD", "")),
    "killed": lambda: spawn_after(lambda: signal_template(signal.SIGKILL)),
    "stopped": lambda: spawn_after(lambda: signal_template(signal.SIGSTOP)),
    "score": lambda: spawn_after(lambda: Path("/proc/self/oom_score_adj").write_text("500")),
    "fork": spawn_from_fork,
    "lives-on": live_on,
    "waits": wait_with_child,
}

if __name__ == "__main__":
    WAYS[sys.argv[1]]()
