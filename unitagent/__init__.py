"""One lifecycle for an inference Unit that spans many machines."""

from __future__ import annotations

__version__ = "0.1.0"
