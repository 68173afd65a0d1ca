# ruff: noqa: T201 - stdout is how it says that it is ready
"""Ignore SIGTERM; SIGKILL is all that helps."""

import signal
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
sys.stdout.flush()
time.sleep(1000)
