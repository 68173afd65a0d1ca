# ruff: noqa: T201 - stdout is how it says that it is ready
"""Make two files of shared memory and keep them mapped: ``shared.py NAME [crash]``."""

import mmap
import os
import signal
import sys
import time

held = []
folder, name = os.path.split(f"/dev/shm/{sys.argv[1]}")  # noqa: S108
for path in (f"{folder}/{name}", f"{folder}/sem.{name}"):
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(handle, 4096)
    held.append(mmap.mmap(handle, 4096))
    os.close(handle)
print("ready", flush=True)
if "crash" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1000)
