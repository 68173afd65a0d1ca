"""Who may read what the workload has written: the logs and the evidence of this instance.

The invariants. Output may hold what users typed, so it goes to nobody who merely reaches the port: where the
Unit has a secret, a request has to prove that its sender knows it, and without one only this host and the
Unit's instances are answered. A proof covers a challenge that is replaced once a minute, so a recorded
request is worth nothing soon, and the incarnation that is asked, so it is worth nothing elsewhere.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from unitagent.probes.answer_signature import (
    CHALLENGE_HEADER,
    INCARNATION_HEADER,
    RANK_HEADER,
    UNIT_HEADER,
    Question,
    is_valid_nonce,
    verify_question,
)
from unitagent.probes.answers import Answers, Request, Response, make_text_response

if TYPE_CHECKING:
    from unitagent.system.keyring import Keyring

_CHALLENGE_SECONDS = 60.0  # seconds for which a challenge is given out; it counts for as long once more
_UNPROVEN = "the proof was made with another UNIT_SECRET than this agent's"


class ReaderGate:
    """Refuses requests of one kind, of one agent.

    Args:
        no_proof: said to who proves nothing.
        foreign: said to who is neither this host nor an instance of a Unit without a secret.

    """

    def __init__(self, answers: Answers, keys: Keyring, no_proof: str, foreign: str) -> None:
        self._answers, self._keys = answers, keys
        self._no_proof, self._foreign = no_proof, foreign
        self._challenges = ("", "")  # the newest, and the one before
        self._renewed = float("-inf")

    def refuse_reader(self, request: Request, asked: str, *, own: bool) -> Response | None:
        """Return the refusal of a request that asks this, or None; ``own``: it comes from this host, or from
        an instance of the Unit.
        """
        if not self._keys:
            return None if own else make_text_response(403, self._foreign)
        newest = self._renew_challenge()
        unit, rank, incarnation = self._answers.identity()
        if not (request.proof and request.challenge in self._challenges and is_valid_nonce(request.nonce)):
            named = (UNIT_HEADER, unit), (RANK_HEADER, str(rank)), (INCARNATION_HEADER, incarnation)
            scheme = ("WWW-Authenticate", "Unitagent")
            return make_text_response(401, self._no_proof, (CHALLENGE_HEADER, newest), scheme, *named)
        question = Question(asked, request.challenge, unit, rank, incarnation)
        if not verify_question(self._keys, question, request.proof):
            return make_text_response(403, _UNPROVEN)
        return None

    def _renew_challenge(self) -> str:
        now = time.monotonic()
        if now - self._renewed > _CHALLENGE_SECONDS:
            recent = now - self._renewed <= 2 * _CHALLENGE_SECONDS
            self._challenges = (secrets.token_hex(16), self._challenges[0] if recent else "")
            self._renewed = now
        return self._challenges[0]
