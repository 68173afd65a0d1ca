"""What an agent's answer has to carry where there is a secret: a signature over it and over a fresh nonce.

The invariant: nothing of the secret is in what is asked, so whoever listens at the address learns nothing.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from unitagent.probes.answer_signature import (
    INCARNATION_HEADER,
    NONCE_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    AnswerClaim,
    verify_answer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitagent.system.keyring import Keyring


class AnswerProof:
    """One question: what it asks with, and whether the answer is one of whoever knows the secret."""

    def __init__(self, unit: str, keys: Keyring) -> None:
        self._unit, self._keys = unit, keys
        self._nonce = secrets.token_hex(16)

    @property
    def headers(self) -> dict[str, str]:
        """What the question carries."""
        return {NONCE_HEADER: self._nonce}

    def verify_answer(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this is an answer to this very question; names of headers are in any case."""
        told = {name.lower(): text for name, text in headers.items()}
        rank = told.get(RANK_HEADER.lower(), "")
        if not (rank.isascii() and rank.isdigit()):
            return False
        claim = AnswerClaim(
            self._nonce, self._unit, int(rank[:9]), told.get(INCARNATION_HEADER.lower(), ""), body
        )
        return verify_answer(self._keys, claim, told.get(SIGNATURE_HEADER.lower(), ""))
