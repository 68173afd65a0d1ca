"""Let a child eat all the memory there is and exit 1 when it was killed for it."""

import os
import sys

if not os.fork():
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)))
os.wait()
sys.exit(1)
