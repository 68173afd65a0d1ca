# ruff: noqa: T201 - stdout is how it says that it is ready
"""Keep forking for a minute: each generation makes the next and exits, out of the group, deaf to SIGTERM."""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
end = time.monotonic() + 60  # should the test be killed, nothing else would end it
while time.monotonic() < end:
    if os.fork():
        time.sleep(0.002)
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
