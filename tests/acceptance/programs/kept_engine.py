"""A stub engine: it takes what a keeper holds, or loads for long, which it notes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
RANK = os.environ["RANK_ID"]


def note(what: str) -> None:
    line = f"{time.monotonic():.6f} engine {RANK} {os.environ['UNIT_GENERATION']} {os.getpid()} {what}\n"
    with (FOLDER / "journal").open("a") as journal:
        journal.write(line)


def end(*_: object) -> None:
    note("ends")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
note("starts")
try:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(FOLDER / f"door.{RANK}"))
    note(f"takes {os.environ['UNIT_KEEPER_GENERATION']}")
except OSError:
    note("loads")
    time.sleep(20)
signal.pause()
