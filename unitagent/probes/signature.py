"""Signed answers: only an agent that knows the Unit's secret can say that a peer is alive.

The invariant: a signature covers the asker's nonce, so an answer recorded earlier proves nothing, and it
covers who answers, of which Unit, so the answer of one never counts as another's, wherever it was relayed to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unitagent.sealing import Kind, is_equal, seal

UNIT_HEADER = "X-Unitagent-Unit"
NONCE_HEADER = "X-Unitagent-Nonce"
RANK_HEADER = "X-Unitagent-Rank"
INCARNATION_HEADER = "X-Unitagent-Incarnation"
SIGNATURE_HEADER = "X-Unitagent-Signature"

_NONCE = re.compile(r"[0-9a-fA-F]{16,128}")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature covers: the question, who answers it, and the answer."""

    nonce: str
    unit: str
    rank: int
    incarnation: str
    body: bytes


def valid_nonce(nonce: str) -> bool:
    """Tell whether a nonce is 16 to 128 hex digits; no other is ever signed."""
    return _NONCE.fullmatch(nonce) is not None


def sign(secret: str, claim: Claim) -> str:
    """Return the HMAC-SHA256 of a claim in hex."""
    who = (claim.unit, str(claim.rank), claim.incarnation)
    return seal(secret, Kind.ANSWER, claim.nonce, *who, claim.body)


def verify(secret: str, claim: Claim, signature: str) -> bool:
    """Tell whether ``signature`` is what ``sign`` returns, in time that does not depend on the difference."""
    return is_equal(sign(secret, claim), signature)
