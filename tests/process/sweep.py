"""Spawn ``sh -c 'exit N'`` for all N at once under one reaper, and print how each ended."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from unitagent.workload.reaper import Reaper


def spawn(reaper: Reaper, number: int, codes: dict[int, int]) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {number}"], {})
    reaper.watch(pid, lambda ended: codes.update({number: ended.status}))


async def main() -> None:
    reaper = Reaper()
    reaper.install()
    codes: dict[int, int] = {}
    for number in range(256):
        spawn(reaper, number, codes)
    while not reaper.alone():
        await reaper.change(1.0)
    json.dump(codes, sys.stdout)


asyncio.run(main())
