"""``/evidence``: what this rank has collected, as a list and in pieces of its files.

The invariants: files hold output of the workload, so they go to nobody who merely reaches the port
(:mod:`reader_gate`). They are read in threads, of which a disk that hangs holds only a few.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from unitagent.probes.answer_signature import make_evidence_question
from unitagent.probes.answers import JSON, Response, make_text_response, sign_response
from unitagent.probes.reader_gate import ReaderGate
from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitagent.probes.answers import Answers, Request
    from unitagent.system.keyring import Keyring

T = TypeVar("T")
_NO_PROOF = "evidence is shown to those who prove that they know UNIT_SECRET: `unitagent evidence`"
_FOREIGN = "without UNIT_SECRET evidence is shown to this host and to the Unit's instances only"
_BINARY = "application/octet-stream"
_FILE = re.compile(r"/evidence/([^/]+)/([^/]+)/([0-9]{1,12})")
_TIMEOUT = 5.0  # seconds that a client waits for the disk
_MOST_READS = 4  # at once, those that hang included


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
        self._gate = ReaderGate(answers, keys, _NO_PROOF, _FOREIGN)
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
                body, kind = await (self._read_file(*match.groups()) if match else self._list(request.path))
        except (TimeoutError, OSError):
            return make_text_response(503, "the disk does not answer; try again")
        if body is None:
            return make_text_response(404, "no such evidence; /evidence lists it")
        return sign_response(self._answers, body, self._keys, asked=question, nonce=request.nonce, kind=kind)

    async def _list(self, path: str) -> tuple[bytes | None, str]:
        if path != "/evidence":
            return None, JSON
        return msgspec.json.encode(await self._read(self._source.list_collections)), JSON

    async def _read_file(self, collection: str, file: str, offset: str) -> tuple[bytes | None, str]:
        return await self._read(lambda: self._source.read_piece(collection, file, int(offset))), _BINARY

    async def _read(self, call: Callable[[], T]) -> T:
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
