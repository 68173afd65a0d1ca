"""Bounds that several rooms hold values to: one place for each number."""

from __future__ import annotations

import re

MAX_PORT = 65535
MAX_UNIT_SIZE = 1024  # instances in a Unit
MAX_SPARES = 64  # instances beyond the size that stand by
MAX_SECONDS = 31_536_000.0  # a year: anything longer is a typing error, and overflows some timers
NAME_PATTERN = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")  # of a Unit or a service; . and .. are paths
HOST_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
MAX_HOST_NAME = 253  # characters
