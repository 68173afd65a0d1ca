"""Signatures of answers: only an agent that knows the Unit's secret can prove that it is alive. Signatures of
questions: only who knows it can ask for the workload's output.

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
CHALLENGE_HEADER = (
    "X-Unitagent-Challenge"  # of an agent, to those who have to prove that they know the secret
)
PROOF_HEADER = "X-Unitagent-Proof"  # of a question: that its sender knows it

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


def make_events_question(nonce: str) -> str:
    """What the signature of ``/events`` covers as its question."""
    return f"events {nonce}"


def make_evidence_question(nonce: str, path: str) -> str:
    """What the signatures of a question for evidence, and of its answer, cover as the question."""
    return f"evidence {nonce} {path}"


def make_logs_question(nonce: str, query: str) -> str:
    """What the signatures of a question for output, and of its answer, cover as the question."""
    return f"logs {nonce} {query}"


class Question(Struct, frozen=True):
    """What the signature of a question covers: the question with the challenge of the agent that is asked."""

    asked: str
    challenge: str
    unit: str
    rank: int
    incarnation: str


def sign_question(keys: Keyring, question: Question) -> str:
    """Return the HMAC-SHA256 of a question in hex, by each key, separated by commas."""
    return ",".join(_seal_question(keys, question))


def verify_question(keys: Keyring, question: Question, signature: str) -> bool:
    """Whether one of my keys has signed this, in time that does not depend on the difference."""
    return _is_any_equal(_seal_question(keys, question), signature)


def _seal_question(keys: Keyring, question: Question) -> list[str]:
    parts = question.asked, question.challenge, question.unit, str(question.rank), question.incarnation
    return [compute_seal(key, SealKind.QUESTION, *parts) for key in keys.signing]


def sign_answer(keys: Keyring, claim: AnswerClaim) -> str:
    """Return the HMAC-SHA256 of a claim in hex, by each key, separated by commas."""
    return ",".join(_compute_seals(keys, claim))


def verify_answer(keys: Keyring, claim: AnswerClaim, signature: str) -> bool:
    """Whether one of my keys has signed this, in time that does not depend on the difference."""
    return _is_any_equal(_compute_seals(keys, claim), signature)


def _is_any_equal(seals: list[str], signature: str) -> bool:
    theirs = signature.split(",", MAX_SECRETS)[:MAX_SECRETS]
    return any([are_seals_equal(mine, other) for mine in seals for other in theirs])  # noqa: C419 (all)


def _compute_seals(keys: Keyring, claim: AnswerClaim) -> list[str]:
    identity = (claim.unit, str(claim.rank), claim.incarnation)
    return [compute_seal(key, SealKind.ANSWER, claim.nonce, *identity, claim.body) for key in keys.signing]
