"""A stub keeper: all ranks meet at rank 0's port, load together, and then answer on a socket of their own.

It notes when it starts, holds and ends; a child of its own that leaves its group lives as long as it does, or
longer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
RANK, SIZE = int(os.environ["RANK_ID"]), int(os.environ["UNIT_SIZE"])
PLACE = os.environ["MASTER_ADDRESS"], int(os.environ["MASTER_PORT"])


def note(what: str) -> None:
    """One line in the journal that all processes share; a write of this size is whole."""
    line = f"{time.monotonic():.6f} keeper {RANK} {os.environ['UNIT_GENERATION']} {os.getpid()} {what}\n"
    with (FOLDER / "journal").open("a") as journal:
        journal.write(line)


def meet() -> None:
    """Wait until the keepers of all ranks are there."""
    if RANK == 0:
        with socket.create_server(PLACE) as server:
            peers: dict[int, socket.socket] = {}
            while len(peers) < SIZE - 1:
                peer = server.accept()[0]
                peer.settimeout(1.0)
                with contextlib.suppress(OSError):
                    peers |= dict.fromkeys(peer.recv(1), peer)
        for peer in peers.values():
            peer.sendall(b"!")
        return
    while True:
        with contextlib.suppress(OSError), socket.create_connection(PLACE, 1.0) as leader:
            leader.settimeout(None)
            leader.sendall(bytes([RANK]))
            if leader.recv(1):
                return
        time.sleep(0.02)


def end(*_: object) -> None:
    note("ends")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
note("starts")
subprocess.Popen(["sh", "-c", "sleep 1000 & exit 0"], start_new_session=True).wait()  # a daemon of its own
meet()
while (FOLDER / f"slow.{RANK}").exists():
    time.sleep(0.02)
with socket.socket(socket.AF_UNIX) as door:
    path = FOLDER / f"door.{RANK}"
    path.unlink(missing_ok=True)
    door.bind(str(path))
    door.listen()
    note("holds")
    sys.stdout.write("weights are in memory\n")
    sys.stdout.flush()
    while True:
        door.accept()[0].close()
