"""``/logs``: the last output of this instance's workload, for those who may read it.

The invariants. It goes to nobody who merely reaches the port (:mod:`reader_gate`), and likely
secrets are masked. One page is made at a time, in a thread, for at most a fifth of a core: readers delay each
other, and neither the agent nor the workload.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from unitagent.probes.answer_signature import make_logs_question
from unitagent.probes.answers import Answers, Request, Response, make_signed_response, make_text_response
from unitagent.probes.reader_gate import ReaderGate
from unitagent.system.redaction import redact_text
from unitagent.system.safe_output import escape_line
from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitagent.probes.answers import OutputFields
    from unitagent.system.keyring import Keyring

_LONGEST_LINE = 1000  # characters
_REST = 4  # times as long as a page took to make, until the next one
_MOST_DIGITS = 18
_MOST_FIELDS = 8
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

_NO_PROOF = (
    "the output of a workload is shown to those who prove that they know UNIT_SECRET: `unitagent logs`"
)
_FOREIGN = (
    "without UNIT_SECRET the output of a workload is shown to this host and to the Unit's instances only"
)
_BAD_AFTER = "after: must be the number of bytes that the last answer gave as its end"


class LogAnswers:
    """The answers to requests for output, of one agent."""

    def __init__(self, answers: Answers, keys: Keyring) -> None:
        self._answers, self._keys = answers, keys
        self._gate = ReaderGate(answers, keys, _NO_PROOF, _FOREIGN)
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
