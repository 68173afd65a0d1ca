"""Make two files of shared memory and keep them mapped: ``shared.py NAME``; ``crash`` ends without warning."""

import mmap
import os
import signal
import sys
import time

held = []
for name in (sys.argv[1], f"sem.{sys.argv[1]}"):
    handle = os.open(f"/dev/shm/{name}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(handle, 4096)
    held.append(mmap.mmap(handle, 4096))
    os.close(handle)
print("ready", flush=True)
if "crash" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1000)
