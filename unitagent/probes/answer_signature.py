"""Signatures of answers: only an agent that knows the Unit's secret can prove that it is alive.

The invariant: a signature covers the asker's nonce, so a recorded answer proves nothing, and it covers the
answering agent and its Unit, so an answer never counts as another agent's, wherever it was relayed to. An
agent with several secrets signs with each; knowing one of them is enough to verify.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.system.keyring import MAX_SECRETS, SealKind, are_seals_equal, compute_seal

if TYPE_CHECKING:
    from unitagent.system.keyring import Keyring

UNIT_HEADER = "X-Unitagent-Unit"
NONCE_HEADER = "X-Unitagent-Nonce"
BRIEF_HEADER = "X-Unitagent-Brief"  # a peer's wish: of all instances only the one that answers
RANK_HEADER = "X-Unitagent-Rank"
INCARNATION_HEADER = "X-Unitagent-Incarnation"
SIGNATURE_HEADER = "X-Unitagent-Signature"
PROOF_HEADER = "X-Unitagent-Proof"  # that the asker knows the secret, where that is asked for

_NONCE = re.compile(r"[0-9a-fA-F]{16,128}")


class AnswerClaim(Struct, frozen=True):
    """What a signature covers: the question, who answers it, and the answer."""

    nonce: str
    unit: str
    rank: int
    incarnation: str
    body: bytes


def is_valid_nonce(nonce: str) -> bool:
    """Whether a nonce is 16 to 128 hex digits; no other is ever signed."""
    return _NONCE.fullmatch(nonce) is not None


def make_brief_question(nonce: str) -> str:
    """What the signature of a brief answer covers as its question, so that it cannot pass for a full one."""
    return f"brief {nonce}"


def make_processes_question(nonce: str) -> str:
    """What the signature of ``/processes`` covers as its question, for the same reason."""
    return f"processes {nonce}"


def make_evidence_question(path: str, nonce: str) -> str:
    """What the signature of ``/evidence`` and of what is below it covers as its question."""
    return f"evidence {path} {nonce}"


def prove_question(keys: Keyring, unit: str, question: str) -> str:
    """Return the proof that who asks this of a Unit knows one of its secrets."""
    return ",".join(compute_seal(key, SealKind.QUESTION, unit, question) for key in keys.signing)


def is_question_proven(keys: Keyring, unit: str, question: str, proof: str) -> bool:
    """Whether who asks this knows one of my secrets, in time that does not depend on the difference."""
    theirs = proof.split(",", MAX_SECRETS)[:MAX_SECRETS]
    mine = [compute_seal(key, SealKind.QUESTION, unit, question) for key in keys.signing]
    return any([are_seals_equal(one, other) for one in mine for other in theirs])  # noqa: C419 (all)


def sign_answer(keys: Keyring, claim: AnswerClaim) -> str:
    """Return the HMAC-SHA256 of a claim in hex, by each key, separated by commas."""
    return ",".join(_compute_seals(keys, claim))


def verify_answer(keys: Keyring, claim: AnswerClaim, signature: str) -> bool:
    """Whether one of my keys has signed this, in time that does not depend on the difference."""
    theirs = signature.split(",", MAX_SECRETS)[:MAX_SECRETS]
    return any([are_seals_equal(mine, other) for mine in _compute_seals(keys, claim) for other in theirs])  # noqa: C419 (all)


def _compute_seals(keys: Keyring, claim: AnswerClaim) -> list[str]:
    identity = (claim.unit, str(claim.rank), claim.incarnation)
    return [compute_seal(key, SealKind.ANSWER, claim.nonce, *identity, claim.body) for key in keys.signing]
