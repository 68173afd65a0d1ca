"""Write so many numbered lines to stderr, then exit 3: ``lines.py COUNT [WIDTH]``."""

import sys

count, width = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
for number in range(count):
    sys.stderr.write(f"line {number}".ljust(width, ".") + "\n")
sys.exit(3)
