# ruff: noqa: T201 - stdout is how it says that it is ready
"""Make 100 orphans: each child leaves a grandchild that ends a little later, with nobody to wait for it."""

import os
import time

for number in range(100):
    if not os.fork():
        if not os.fork():
            time.sleep(0.05)
            os._exit(number % 5)
        os._exit(0)
for _ in range(100):
    os.wait()
print("ready", flush=True)
time.sleep(1000)
