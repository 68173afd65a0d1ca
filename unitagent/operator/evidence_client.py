"""Reads the evidence of one rank from its agent.

The invariant: in a Unit with a secret an answer counts only with proof that the agent knows it, and the agent
gets a proof that holds for its own incarnation and for a minute.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from unitagent.errors import UnitAgentError
from unitagent.operator.agent_client import UNKNOWN_FORM, AnswerProof, UnprovenError, open_connection
from unitagent.probes.answer_signature import (
    CHALLENGE_HEADER,
    PROOF_HEADER,
    Question,
    make_evidence_question,
    sign_question,
)
from unitagent.probes.answers import EVIDENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitagent.system.keyring import Keyring

_TIMEOUT = 10.0  # seconds for an answer
_MOST = 4 << 20  # bytes of one


class EvidenceReader:
    """Reads from the agent of this instance, as a status describes it. Each method blocks.

    Every method raises :class:`unitagent.errors.UnitAgentError` with the reason if there is no answer that
    counts.
    """

    def __init__(self, unit: str, keys: Keyring, instance: Mapping[str, Any]) -> None:
        self._unit, self._keys, self._instance = unit, keys, instance
        self._challenge = ""

    def list_collections(self) -> list[dict[str, Any]]:
        """Return what the agent has collected."""
        try:
            listed = json.loads(self._read(EVIDENCE))
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise UnitAgentError(UNKNOWN_FORM)
        return listed

    def read_piece(self, collection: str, file: str, offset: int) -> bytes:
        """Return what is in a file from an offset, at most a piece of it."""
        return self._read(f"{EVIDENCE}/{collection}/{file}/{offset}")

    def _read(self, path: str) -> bytes:
        for _ in range(2):  # the first answer may be a challenge
            proof = AnswerProof(self._unit, self._keys, lambda nonce: make_evidence_question(nonce, path))
            code, headers, body = self._ask(path, {**proof.headers, **self._sign(proof)})
            if code != http.client.UNAUTHORIZED or not self._keys:
                break
            self._challenge = headers.get(CHALLENGE_HEADER.lower(), "")
        if code != http.client.OK:
            raise UnitAgentError(self._explain_refusal(path, code, body))
        if not proof.verify_answer(headers, body):
            raise UnprovenError(self._instance["ip"], self._instance["port"])
        return body

    def _explain_refusal(self, path: str, code: int, body: bytes) -> str:
        if code == http.client.UNAUTHORIZED and not self._keys:
            return "its agent has a secret: pass the same one to this command (UNIT_SECRET_FILE)"
        if code == http.client.NOT_FOUND and path == EVIDENCE:
            return "its agent collects none (UNIT_EVIDENCE_SECONDS=0)"
        excerpt = body[:200].decode(errors="replace").strip()
        return f"its agent refuses ({code}): {excerpt}"

    def _sign(self, proof: AnswerProof) -> Mapping[str, str]:
        if not self._keys or not self._challenge:
            return {}
        one = self._instance
        question = Question(proof.question, self._challenge, self._unit, one["rank"], one["incarnation"])
        return {CHALLENGE_HEADER: self._challenge, PROOF_HEADER: sign_question(self._keys, question)}

    def _ask(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        try:
            with open_connection(self._instance["ip"], self._instance["port"], _TIMEOUT) as connection:
                connection.request("GET", path, headers=dict(headers))
                answer = connection.getresponse()
                fields = {name.lower(): text for name, text in answer.headers.items()}
                return answer.status, fields, answer.read(_MOST)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnitAgentError(f"its agent cannot be asked: {error}") from error
