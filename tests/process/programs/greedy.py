# ruff: noqa: T201 - stdout is how it says that it is ready
"""Fork until there is no process left to be had; all of them are deaf to SIGTERM."""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    while os.fork():
        pass
except BlockingIOError:
    print("ready", flush=True)
time.sleep(1000)
