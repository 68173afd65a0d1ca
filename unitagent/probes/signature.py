"""Signed answers: only an agent that knows the Unit's secret can say that a peer is alive.

The invariant: a signature covers the asker's nonce, so an answer recorded earlier proves nothing, and it
covers who answers, so one rank's answer never counts as another's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

NONCE_HEADER = "X-Unitagent-Nonce"
RANK_HEADER = "X-Unitagent-Rank"
INCARNATION_HEADER = "X-Unitagent-Incarnation"
SIGNATURE_HEADER = "X-Unitagent-Signature"

_NONCE = re.compile(r"[0-9a-fA-F]{16,128}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature covers. No part but the body may contain a newline."""

    nonce: str
    rank: int
    incarnation: str
    body: bytes


def valid_nonce(nonce: str) -> bool:
    """Tell whether a nonce is 16 to 128 hex digits; no other is ever signed."""
    return _NONCE.fullmatch(nonce) is not None


def sign(secret: str, claim: Claim) -> str:
    """Return the HMAC-SHA256 of a claim in hex."""
    message = f"{claim.nonce}\n{claim.rank}\n{claim.incarnation}\n".encode() + claim.body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def verify(secret: str, claim: Claim, signature: str) -> bool:
    """Tell whether ``signature`` is what ``sign`` returns, in time that does not depend on the difference."""
    return hmac.compare_digest(sign(secret, claim).encode(), signature.encode(errors="replace"))
