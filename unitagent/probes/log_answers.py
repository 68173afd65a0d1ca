"""``/logs``: the last output of this instance's workload, for those who may read it.

The invariants. Output may hold what users typed, so it goes to nobody who merely reaches the port: where the
Unit has a secret, a request has to prove that its sender knows it, and without one only this host and the
Unit's instances are answered. A proof covers a challenge that is replaced once a minute, so a recorded
request is worth nothing soon, and the incarnation that is asked, so it is worth nothing elsewhere. Likely
secrets are masked. One page is made at a time, in a thread, for at most a fifth of a core: readers delay each
other, and neither the agent nor the workload.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from unitagent.probes.answer_signature import (
    CHALLENGE_HEADER,
    INCARNATION_HEADER,
    RANK_HEADER,
    UNIT_HEADER,
    Question,
    is_valid_nonce,
    make_logs_question,
    verify_question,
)
from unitagent.probes.answers import Answers, Request, Response, make_signed_response, make_text_response
from unitagent.system.redaction import redact_text
from unitagent.system.safe_output import escape_line
from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitagent.probes.answers import OutputFields
    from unitagent.system.keyring import Keyring

_CHALLENGE_SECONDS = 60.0  # seconds for which a challenge is given out; it counts for as long once more
_LONGEST_LINE = 1000  # characters
_REST = 4  # times as long as a page took to make, until the next one
_MOST_DIGITS = 18
_MOST_FIELDS = 8
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

_NO_PROOF = (
    "the output of a workload is shown to those who prove that they know UNIT_SECRET: `unitagent logs`"
)
_UNPROVEN = "the proof was made with another UNIT_SECRET than this agent's"
_FOREIGN = (
    "without UNIT_SECRET the output of a workload is shown to this host and to the Unit's instances only"
)
_BAD_AFTER = "after: must be the number of bytes that the last answer gave as its end"


class LogAnswers:
    """The answers to requests for output, of one agent."""

    def __init__(self, answers: Answers, keys: Keyring) -> None:
        self._answers, self._keys = answers, keys
        self._challenges = ("", "")  # the newest, and the one before
        self._renewed = float("-inf")
        self._turn = asyncio.Lock()

    async def answer_request(self, request: Request, *, own: bool) -> Response:
        """Answer a request; ``own``: it comes from this host, or from an instance of the Unit."""
        if (refusal := self._refuse_reader(request, own=own)) is not None:
            return refusal
        after = parse_qs(request.query, max_num_fields=_MOST_FIELDS).get("after", ["0"])[-1]
        if not (after.isascii() and after.isdigit() and len(after) <= _MOST_DIGITS):
            return make_text_response(400, _BAD_AFTER)
        question = make_logs_question(request.nonce, request.query)
        return make_signed_response(
            self._answers, await self._read_page(int(after)), question, request.nonce, self._keys
        )

    def _refuse_reader(self, request: Request, *, own: bool) -> Response | None:
        if not self._keys:
            return None if own else make_text_response(403, _FOREIGN)
        newest = self._renew_challenge()
        unit, rank, incarnation = self._answers.identity()
        if not (request.proof and request.challenge in self._challenges and is_valid_nonce(request.nonce)):
            named = (UNIT_HEADER, unit), (RANK_HEADER, str(rank)), (INCARNATION_HEADER, incarnation)
            scheme = ("WWW-Authenticate", "Unitagent")
            return make_text_response(401, _NO_PROOF, (CHALLENGE_HEADER, newest), scheme, *named)
        asked = make_logs_question(request.nonce, request.query)
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

    async def _read_page(self, after: int) -> OutputFields:
        async with self._turn:
            page = self._answers.output(after)
            began = time.monotonic()
            parts = await run_in_daemon_thread(lambda: list(map(_show_part, page["parts"])))
            await asyncio.sleep(_REST * (time.monotonic() - began))
        return {**page, "parts": parts}


def _show_part(part: OutputFields) -> OutputFields:
    return {"generation": part["generation"], "lines": list(_show_lines(part["data"]))}


def _show_lines(data: bytes) -> Iterator[str]:
    """Yield the lines as text, without secrets and without anything that a terminal would obey."""
    for line in data.decode(errors="replace").split("\n")[:-1]:
        shown = _COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2])[:_LONGEST_LINE]
        yield escape_line(redact_text(shown))
