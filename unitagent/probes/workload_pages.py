"""What the workload has written, for those who may read it: ``/logs``, its last output, and ``/evidence``,
a list of what this rank has collected and pieces of its files.

The invariants. Output may hold what users typed, so no client gets it just because it reaches the port
(:class:`ReaderGate`): where the Unit has a secret, a request has to prove that its sender knows it, and
without one only this host and the Unit's instances are answered. A proof covers a challenge that is replaced
once a minute, so a recorded request is worth nothing soon, and the incarnation that is asked, so it is worth
nothing elsewhere. In ``/logs`` likely secrets are masked, and one page is made at a time, in a thread, for at
most a fifth of a core: readers delay each other, and neither the agent nor the workload. Files are read in
threads, of which a disk that hangs holds only a few.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qs

import msgspec

from unitagent.probes.answer_signature import (
    CHALLENGE_HEADER,
    INCARNATION_HEADER,
    RANK_HEADER,
    UNIT_HEADER,
    Question,
    is_valid_nonce,
    make_evidence_question,
    make_logs_question,
    verify_question,
)
from unitagent.probes.answers import (
    JSON,
    Answers,
    Request,
    Response,
    make_signed_response,
    make_text_response,
    sign_response,
)
from unitagent.system.redaction import redact_text
from unitagent.system.safe_output import escape_line, read_shown
from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitagent.probes.answers import OutputFields
    from unitagent.system.keyring import Keyring

T = TypeVar("T")
_CHALLENGE_SECONDS = 60.0  # seconds for which a challenge is given out; it counts for as long once more
_UNPROVEN = "the proof was made with another UNIT_SECRET than this agent's"

_NO_PROOF_FOR_LOGS = (
    "the output of a workload is shown to those who prove that they know UNIT_SECRET: `unitagent logs`"
)
_FOREIGN_TO_LOGS = (
    "without UNIT_SECRET the output of a workload is shown to this host and to the Unit's instances only"
)
_BAD_AFTER = "after: must be the number of bytes that the last answer gave as its end"
_LONGEST_LINE = 1000  # characters
_REST = 4  # times as long as a page took to make, until the next one
_MOST_DIGITS = 18
_MOST_FIELDS = 8

_NO_PROOF_FOR_EVIDENCE = (
    "evidence is shown to those who prove that they know UNIT_SECRET: `unitagent evidence`"
)
_FOREIGN_TO_EVIDENCE = "without UNIT_SECRET evidence is shown to this host and to the Unit's instances only"
_BINARY = "application/octet-stream"
_FILE = re.compile(r"/evidence/([^/]+)/([^/]+)/([0-9]{1,12})")
_TIMEOUT = 5.0  # seconds that a client waits for the disk
_MOST_READS = 4  # at once, those that hang included


class ReaderGate:
    """Refuses requests of one kind, of one agent.

    Args:
        no_proof: the text for a request without a proof.
        foreign: the text for other hosts, if the Unit has no secret.

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
        unit, rank, incarnation = self._answers.get_identity()
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


class LogAnswers:
    """The answers to requests for output, of one agent."""

    def __init__(self, answers: Answers, keys: Keyring) -> None:
        self._answers, self._keys = answers, keys
        self._gate = ReaderGate(answers, keys, _NO_PROOF_FOR_LOGS, _FOREIGN_TO_LOGS)
        self._turn = asyncio.Lock()

    async def answer_request(self, request: Request, *, own: bool) -> Response:
        """Answer a request; ``own``: it comes from this host, or from an instance of the Unit."""
        question = make_logs_question(request.nonce, request.query)
        if (refusal := self._gate.refuse_reader(request, question, own=own)) is not None:
            return refusal
        after = parse_qs(request.query, max_num_fields=_MOST_FIELDS).get("after", ["0"])[-1]
        if not (after.isascii() and after.isdigit() and len(after) <= _MOST_DIGITS):
            return make_text_response(400, _BAD_AFTER)
        return make_signed_response(
            self._answers, await self._read_page(int(after)), question, request.nonce, self._keys
        )

    async def _read_page(self, after: int) -> OutputFields:
        async with self._turn:
            page = self._answers.read_output(after)
            began = time.monotonic()
            parts = await run_in_daemon_thread(lambda: list(map(_show_part, page["parts"])))
            await asyncio.sleep(_REST * (time.monotonic() - began))
        return {**page, "parts": parts}


def _show_part(part: OutputFields) -> OutputFields:
    return {"generation": part["generation"], "lines": list(_show_lines(part["data"]))}


def _show_lines(data: bytes) -> Iterator[str]:
    """Yield the lines as text, without secrets and without anything that a terminal would obey."""
    for line in data.decode(errors="replace").split("\n")[:-1]:
        shown = read_shown(line)[:_LONGEST_LINE]
        yield escape_line(redact_text(shown))


class EvidenceSource(Protocol):
    """What has been collected here. Each method blocks."""

    def list_collections(self) -> list[dict[str, Any]]:
        """Return all collections, oldest first."""

    def read_piece(self, collection: str, file: str, offset: int) -> bytes | None:
        """Return a piece of a file; None if there is no such file."""


class EvidencePages:
    """Answers for one agent."""

    def __init__(self, source: EvidenceSource, answers: Answers, keys: Keyring) -> None:
        self._source = source
        self._answers = answers
        self._keys = keys
        self._gate = ReaderGate(answers, keys, _NO_PROOF_FOR_EVIDENCE, _FOREIGN_TO_EVIDENCE)
        self._reading = 0

    async def answer_request(self, request: Request, *, own: bool) -> Response:
        """Answer a request for ``/evidence`` or for a piece of a file below it; ``own``: it comes from this
        host, or from an instance of the Unit.
        """
        question = make_evidence_question(request.nonce, request.path)
        if (refusal := self._gate.refuse_reader(request, question, own=own)) is not None:
            return refusal
        if self._reading >= _MOST_READS:
            return make_text_response(503, "the disk is busy; try again")
        match = _FILE.fullmatch(request.path)
        try:
            async with asyncio.timeout(_TIMEOUT):
                body, kind = await (
                    self._read_file(*match.groups()) if match else self._list_evidence(request.path)
                )
        except (TimeoutError, OSError):
            return make_text_response(503, "the disk does not answer; try again")
        if body is None:
            return make_text_response(404, "no such evidence; /evidence lists it")
        return sign_response(self._answers, body, self._keys, asked=question, nonce=request.nonce, kind=kind)

    async def _list_evidence(self, path: str) -> tuple[bytes | None, str]:
        if path != "/evidence":
            return None, JSON
        return msgspec.json.encode(await self._read_evidence(self._source.list_collections)), JSON

    async def _read_file(self, collection: str, file: str, offset: str) -> tuple[bytes | None, str]:
        return await self._read_evidence(
            lambda: self._source.read_piece(collection, file, int(offset))
        ), _BINARY

    async def _read_evidence(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        self._reading += 1

        def read() -> T:
            try:
                return call()
            finally:
                loop.call_soon_threadsafe(self._end_read)

        try:
            return await run_in_daemon_thread(read)
        except OSError:  # no thread: it did not begin
            self._end_read()
            raise

    def _end_read(self) -> None:
        self._reading -= 1
