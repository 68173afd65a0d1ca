"""Spawn ``sh -c 'exit N'`` for all N under one reaper, let it see them when all have ended, and print how
each did, and the most that were buried in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from unitagent.system import procfs
from unitagent.workload.reaper import Reaper

MANY = 256


def is_alive(pid: int) -> bool:
    one = procfs.read_process(pid)
    return one is not None and one.alive


def spawn(reaper: Reaper, number: int, codes: dict[int, int]) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {number}"], {})
    reaper.watch_child(pid, lambda ended: codes.update({number: ended.status}))


async def count(codes: dict[int, int]) -> int:
    """The most that one turn of the loop brings."""
    most = seen = 0
    while len(codes) < MANY:
        await asyncio.sleep(0)
        most, seen = max(most, len(codes) - seen), len(codes)
    return most


async def main() -> None:
    reaper = Reaper()
    reaper.start_reaping()
    codes: dict[int, int] = {}
    for number in range(MANY):
        spawn(reaper, number, codes)
    while any(is_alive(pid) for pid in procfs.list_child_pids()):
        time.sleep(0.01)  # noqa: ASYNC251  # the loop learns of none
    most = await count(codes)
    assert reaper.is_workload_gone()
    json.dump({"codes": codes, "most": most}, sys.stdout)


asyncio.run(main())
