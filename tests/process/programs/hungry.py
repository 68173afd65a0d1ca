"""Eat all the memory there is. ``--child`` lets a child do it and exits 1 when that was killed."""

import os
import sys

if "--child" not in sys.argv or not os.fork():
    eaten = []
    while True:
        eaten.append(b"x" * (1 << 20))
os.wait()
sys.exit(1)
