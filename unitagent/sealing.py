"""Proofs that somebody who knows the Unit's secret has said exactly this.

The invariant: what is sealed begins with what it is, and each part with its length, so that a seal of one
thing is never one of another, however the parts are cut.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum


class SealKind(StrEnum):
    """What is sealed."""

    ANSWER = "answer"  # of an agent, to a peer's question
    RECORD = "record"  # of a rank, in the store
    ENTRY = "entry"  # of a Unit, in the list of all


def compute_seal(secret: str, kind: SealKind, *parts: str | bytes) -> str:
    """Return the HMAC-SHA256 of these parts in hex."""
    raw = [part if isinstance(part, bytes) else part.encode() for part in (kind.value, *parts)]
    message = b"".join(b"%d:%s" % (len(part), part) for part in raw)
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def are_seals_equal(mine: str, theirs: str) -> bool:
    """Compare two seals in time that does not depend on where they differ."""
    return hmac.compare_digest(mine.encode(), theirs.encode(errors="replace"))
