"""Eat all the memory there is. ``--child`` lets a child do it and exits 1 when that was killed, or later:
``--child FILE`` says "killed" then, and exits when that file is there.
"""

import os
import sys
import time
from pathlib import Path

if "--child" not in sys.argv or not os.fork():
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))
os.wait()
os.write(1, b"killed\n")
while sys.argv[-1] != "--child" and not Path(sys.argv[-1]).exists():
    time.sleep(0.01)
sys.exit(1)
