# ruff: noqa: T201 - stdout is how it says that it is ready
"""Leave a daemon behind, made by the book: fork, setsid, fork. ``--stubborn`` ones ignore SIGTERM."""

import os
import signal
import sys
import time

if os.fork():
    os.wait()
    print("ready", flush=True)
    if "--stay" in sys.argv:
        time.sleep(1000)
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(1000)
