"""``unitagent logs``: the recent output of the workload on every rank, through the agents there.

The invariants: stdout holds output of workloads and nothing else; notes about ranks, such as why one of
them cannot be read, go to stderr, each once. No line is shown twice, and a gap is reported: the agents count
bytes, and a rank is read from where the last answer ended, for as long as the same incarnation answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from unitagent.agent.secret_rotation import SecretFile
from unitagent.core.model import InstanceState, format_age
from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.operator.agent_client import UNKNOWN_FORM, AnswerProof
from unitagent.operator.terminal import detect_style, format_rank
from unitagent.operator.unit_cli import load_status
from unitagent.probes.answer_signature import (
    CHALLENGE_HEADER,
    INCARNATION_HEADER,
    PROOF_HEADER,
    RANK_HEADER,
    UNIT_HEADER,
    Question,
    make_logs_question,
    sign_question,
)
from unitagent.probes.answers import LOGS
from unitagent.probes.peer_http import HttpResponse, get_response
from unitagent.settings import Settings
from unitagent.system.host_port import join_host_port
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import escape_lines, print_text, print_verbatim

_ANSWER_TIMEOUT = 5.0  # seconds for an agent's answer
_EVERY = 0.5  # seconds between two looks for new output
_LOCATE_EVERY = 2.0  # seconds between two looks where the ranks are, while one of them cannot be read
_AT_ONCE = 32  # agents


class _Part(msgspec.Struct):
    generation: int
    lines: list[str]


class _Page(msgspec.Struct):
    """An agent's answer, see :mod:`unitagent.probes.workload_pages`."""

    streams: list[str]
    begin: int
    end: int
    more: bool
    parts: list[_Part]


class UnreadableError(Exception):
    """The output of a rank cannot be read; the text says why.

    Args:
        why: it is told once in a row.
        since: how long ago the rank was last heard of, which changes all the time.

    """

    def __init__(self, why: str, since: str = "") -> None:
        super().__init__(why)
        self.since = since


def show_logs(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the recent output of all ranks, or of one, and with ``--follow`` what they write from now on.

    Returns 1 if a rank could not be read, unless it is followed.

    Raises:
        UnitAgentError: there is no such Unit, or no such rank.

    """
    rank = parse_rank(namespace.rank)
    return asyncio.run(_print_logs(settings, rank, follow=namespace.follow))


def parse_rank(text: str | None) -> int | None:
    """Return the rank to show; None for all.

    Raises:
        ConfigurationError: it is not a rank.

    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ConfigurationError(
            f"--rank={text!r}: must be the number of a rank, from 0; without it all are shown"
        )
    return int(text[:9])


@dataclass
class RankLog:
    """How far the output of one rank has been shown.

    Attributes:
        instance: the rank, as a status describes it.
        note: what was last said about it.
        unreadable: the last attempt to read it failed.

    """

    instance: dict[str, Any]
    note: str = ""
    unreadable: bool = False
    incarnation: str = ""
    after: int = 0
    generation: int = 0
    challenge: str = field(default="", repr=False)

    async def read_new_lines(self, unit: str, keys: Keyring) -> list[tuple[str, bool]]:
        """Return what is new: lines, and notes (True) about them.

        Raises:
            UnreadableError: no agent gives its output.

        """
        new: list[tuple[str, bool]] = []
        while True:
            page, incarnation = await self._fetch_page(unit, keys)
            if incarnation != self.incarnation:
                began_anew, self.incarnation = bool(self.incarnation and self.after), incarnation
                if began_anew:
                    self.after = 0
                    new.append(("another agent is there now", True))
                    continue
            if self.after and page.begin > self.after:
                new.append((f"{page.begin - self.after} bytes are missing here: they came too fast", True))
            new += self._take_parts(page)
            if not page.more or page.end <= self.after:
                self.after = page.end
                return new
            self.after = page.end

    def _take_parts(self, page: _Page) -> Iterator[tuple[str, bool]]:
        if not page.streams:
            yield "the workload writes to its terminal, and its agent keeps nothing of that", True
        for part in page.parts:
            if self.generation not in {0, part.generation}:
                yield f"generation {part.generation} begins", True
            self.generation = part.generation
            yield from ((line, False) for line in part.lines)

    async def _fetch_page(self, unit: str, keys: Keyring) -> tuple[_Page, str]:
        where = _locate_agent(self.instance)
        query = f"after={self.after}"
        for _ in range(2):  # the first answer may be a challenge
            answer, proof = await self._ask_agent(where, query, unit, keys)
            if not self._comes_from_rank(answer, unit):
                raise UnreadableError("another agent answers there")
            if answer.code != 401 or not keys:  # noqa: PLR2004
                break
            self.challenge = answer.headers.get(CHALLENGE_HEADER.lower(), "")
        if answer.code != 200:  # noqa: PLR2004
            raise UnreadableError(_explain_refusal(answer, keys))
        if not proof.verify_answer(answer.headers, answer.body):
            raise UnreadableError(
                "its answer carries no proof of UNIT_SECRET and is ignored: its agent has another or none"
            )
        try:
            page = msgspec.json.decode(answer.body, type=_Page)
        except msgspec.MsgspecError as error:
            raise UnreadableError(UNKNOWN_FORM) from error
        return page, answer.headers.get(INCARNATION_HEADER.lower(), "")

    def _comes_from_rank(self, answer: HttpResponse, unit: str) -> bool:
        """Whether the agent that answers calls itself this rank; one of an older version does not know the
        path, and says nothing.
        """
        named = {UNIT_HEADER: unit, RANK_HEADER: str(self.instance["rank"])}
        if answer.code == 401:  # noqa: PLR2004 (the proof counts for one incarnation only)
            named[INCARNATION_HEADER] = self.instance["incarnation"]
        return all(answer.headers.get(name.lower(), value) == value for name, value in named.items())

    async def _ask_agent(
        self, where: tuple[str, int], query: str, unit: str, keys: Keyring
    ) -> tuple[HttpResponse, AnswerProof]:
        proof = AnswerProof(unit, keys, lambda nonce: make_logs_question(nonce, query))
        headers = dict(proof.headers)
        if keys and self.challenge:
            one = self.instance
            question = Question(proof.question, self.challenge, unit, one["rank"], one["incarnation"])
            headers |= {CHALLENGE_HEADER: self.challenge, PROOF_HEADER: sign_question(keys, question)}
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                return await get_response(where, f"{LOGS}?{query}", headers), proof
        except TimeoutError as error:
            raise UnreadableError("its agent does not answer", _describe_silence(self.instance)) from error
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None)
            why = f"its agent cannot be asked ({os.strerror(number) if number else error})"
            has_left = self.instance["state"] == InstanceState.EXITED
            raise UnreadableError(
                "its agent has ended" if has_left else why, _describe_silence(self.instance)
            ) from error


def _locate_agent(instance: dict[str, Any]) -> tuple[str, int]:
    """Return where the agent of a rank answers.

    Raises:
        UnreadableError: nowhere.

    """
    if instance["incarnation"] is None:
        raise UnreadableError("it never joined")
    if instance.get("port") == 0:
        raise UnreadableError("its agent has no probe address (UNIT_HTTP_ADDRESS=off)")
    if not instance.get("port"):
        raise UnreadableError("its agent is of an older version, which does not publish its address")
    return instance["ip"], instance["port"]


def _describe_silence(instance: dict[str, Any]) -> str:
    age = instance["lease_seconds"]
    return "" if age is None else f"; its last sign of life was {format_age(age)} ago"


def _explain_refusal(answer: HttpResponse, keys: Keyring) -> str:
    if answer.code == 404:  # noqa: PLR2004
        return "its agent is of an older version, which keeps no output"
    if answer.code == 401:  # noqa: PLR2004
        return (
            "its agent takes no proof: something stands between"
            if keys
            else "its agent has a secret: pass the same one to this command (UNIT_SECRET_FILE)"
        )
    excerpt = answer.body[:500].decode(errors="replace").strip()
    return f"its agent refuses: {excerpt}"


class LogPrinter:
    """Prints lines, with their ranks where there are several, and each note about a rank once in a row."""

    def __init__(self, *, prefixed: bool) -> None:
        self._prefixed, self._style = prefixed, detect_style()

    def print_line(self, rank: int, line: str) -> None:
        """Print a line of a workload."""
        head = format_rank(rank, self._style) if self._prefixed else ""
        print_verbatim(f"{head}{escape_lines(line)}\n")

    def print_note(self, log: RankLog, note: str, more: str = "") -> None:
        """Print a note on stderr, unless it was the last one, whatever ``more`` there was to it."""
        if note != log.note:
            print_text(f"unitagent: rank {_name_rank(log.instance)}: {note}{more}", sys.stderr)
        log.note = note


def _name_rank(instance: dict[str, Any]) -> str:
    if not instance["ip"]:
        return str(instance["rank"])
    there = join_host_port(instance["ip"], instance["port"]) if instance.get("port") else instance["ip"]
    return f"{instance['rank']} ({there})"


async def _print_logs(settings: Settings, rank: int | None, *, follow: bool) -> int:
    keys = settings.keys
    logs = [RankLog(one) for one in _select_ranks(await _load_instances(settings, keys), rank)]
    reader = _Reader(settings, keys, LogPrinter(prefixed=rank is None and len(logs) > 1))
    if not follow:
        shown = [await reader.show_new_lines(log) for log in logs]
        return 0 if all(shown) else 1
    file = SecretFile(settings.secret_file, keys, _print_message, _print_message)
    async with file.watch_in_background(settings.heartbeat), asyncio.TaskGroup() as followers:
        for log in logs:
            followers.create_task(reader.follow(log))
    return 0


class _Reader:
    """Reads the output of ranks, a few at a time, and prints it."""

    def __init__(self, settings: Settings, keys: Keyring, printer: LogPrinter) -> None:
        self._settings, self._keys, self._printer = settings, keys, printer
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._locating = asyncio.Lock()
        self._instances: list[dict[str, Any]] = []
        self._located = float("-inf")

    async def show_new_lines(self, log: RankLog) -> bool:
        """Print what is new of one rank; return whether it could be read."""
        try:
            async with self._turns:
                new = await log.read_new_lines(self._settings.unit, self._keys)
        except UnreadableError as error:
            self._printer.print_note(log, str(error), error.since)
            log.unreadable = True
            return False
        if log.unreadable:
            self._printer.print_note(log, "its agent answers again")
            log.unreadable = False
        for text, is_note in new:
            if is_note:
                self._printer.print_note(log, text)
            else:
                self._printer.print_line(log.instance["rank"], text)
        return True

    async def follow(self, log: RankLog) -> None:
        """Print what is new again and again, wherever the rank moves."""
        while True:
            if await self.show_new_lines(log):
                await asyncio.sleep(_EVERY)
            else:
                await asyncio.sleep(_LOCATE_EVERY)
                await self._locate_again(log)

    async def _locate_again(self, log: RankLog) -> None:
        """Look where the rank is now; all that search share one look, and keep what they know if it fails."""
        async with self._locating:
            if time.monotonic() - self._located > _LOCATE_EVERY / 2:
                with contextlib.suppress(UnitAgentError):
                    self._instances = await _load_instances(self._settings, self._keys)
                self._located = time.monotonic()
        for one in self._instances:
            if one["rank"] == log.instance["rank"] and one["incarnation"] is not None:
                log.instance = one


def _select_ranks(instances: list[dict[str, Any]], rank: int | None) -> list[dict[str, Any]]:
    chosen = [one for one in instances if rank in {None, one["rank"]}]
    if not chosen:
        raise UnitAgentError(f"--rank={rank}: the Unit has the ranks 0 to {len(instances) - 1}")
    return chosen


async def _load_instances(settings: Settings, keys: Keyring) -> list[dict[str, Any]]:
    """Return where the ranks of the Unit are, from the store or the agent in this container."""
    seen, _ = await load_status(settings, keys)
    return list(seen["instances"])


def _print_message(text: str) -> None:
    print_text(f"unitagent: {text}", sys.stderr)
