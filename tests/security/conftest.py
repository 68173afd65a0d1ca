"""What the attacks are carried out on."""

from __future__ import annotations

from tests.network.conftest import make_lab

__all__ = ["make_lab"]
