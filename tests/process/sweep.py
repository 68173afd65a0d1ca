"""Spawn ``sh -c 'exit N'`` for all N at once under one reaper, and print how each ended."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from unitagent.workload.reaper import Reaper


async def main() -> None:
    reaper = Reaper()
    reaper.install()
    codes: dict[int, int] = {}
    for number in range(256):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {number}"], {})
        reaper.watch(pid, lambda ended, number=number: codes.update({number: ended.status}))
    while not reaper.alone():
        await reaper.change(1.0)
    json.dump(codes, sys.stdout)


asyncio.run(main())
