"""From a request to a response, without a socket: which path is answered how.

The invariant: the status code is the answer, for machines; the text is for people, and its first line says
why whenever the code is not 200. Paths, ``?verbose`` and ``?exclude`` follow Kubernetes components
(https://kubernetes.io/docs/reference/using-api/health-checks/), but reasons are never withheld.

The page at ``/`` is one file that asks only this agent. The browser learns the hashes of its script and
style and accepts no others, so no value can make the page do anything.

HAProxy's agent-check sends one line and gets one line, which says the same as the code of ``/traffic``.
HAProxy ignores an agent that it cannot reach.

Expensive answers are cached for ``CACHE_SECONDS``. Probes are always answered as of now; only what people
read, and no machine acts on, may be that old.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from unitagent.core.probe_answers import NOT_HERE, OK, ProbeAnswer
from unitagent.core.probe_paths import PROBES_BY_PATH
from unitagent.probes.answer_signature import (
    INCARNATION_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    UNIT_HEADER,
    AnswerClaim,
    is_valid_nonce,
    make_brief_question,
    sign_answer,
)
from unitagent.system.safe_output import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from unitagent.core.probe_answers import ProbeCheck
    from unitagent.core.probe_paths import Probe
    from unitagent.system.keyring import Keyring

    ProcessFields = Mapping[str, Any]  # what one process uses, as ``/processes`` shows it
    OutputFields = Mapping[str, Any]  # output of the workload, as ``/logs`` shows it


STATUS, METRICS, PROCESSES, LOGS = "/status", "/metrics", "/processes", "/logs"
EVIDENCE = "/evidence"
PATHS = (*PROBES_BY_PATH, STATUS, METRICS, PROCESSES, LOGS)

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
HTML = "text/html; charset=utf-8"

_MAX_FIELDS = 64


class Answers(Protocol):
    """What the agent knows. Each method is called on the event loop and returns at once."""

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        """Answer one of ``PROBES``."""

    def build_status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""

    def report_instance(self) -> dict[str, Any]:
        """Return what ``/status`` says of this instance alone."""

    def is_ready(self) -> bool:
        """Return whether the whole Unit serves."""

    def render_metrics(self, processes: Sequence[ProcessFields] | None) -> bytes:
        """Return Prometheus text, with what these ``processes`` of the workload use; None if that is not
        known.
        """

    async def list_processes(self) -> Sequence[ProcessFields]:
        """Return what each process of the workload uses; the one answer that takes a while."""

    def read_output(self, after: int) -> OutputFields:
        """Return what the workload wrote after this: what ``/logs`` shows, with the bytes of its parts."""

    def get_identity(self) -> tuple[str, int, str]:
        """Return my Unit, my rank and my incarnation."""

    def list_addresses(self) -> Collection[str]:
        """Return the addresses of all instances that are known."""

    def get_dashboard(self) -> str:
        """Return what the page at ``/`` shows: the ``unit``, the ``store``, or nothing: ``off``."""


class Request(Struct, frozen=True):
    """The parts of an HTTP request that matter.

    Attributes:
        path: percent-decoded.
        query: as sent, without the question mark.
        nonce: of a peer that wants a signed answer, or empty.
        brief: a peer wants to know of this instance alone, and whether the Unit serves.
        challenge: of this agent, that the proof covers, or empty.
        proof: that the sender knows the secret, or empty.

    """

    method: str
    path: str
    query: str = ""
    nonce: str = ""
    brief: bool = False
    challenge: str = ""
    proof: str = ""


def answer_request(answers: Answers, request: Request, keys: Keyring) -> Response:
    """Answer one request."""
    if request.method not in {"GET", "HEAD"}:
        return make_text_response(405, "only GET and HEAD are answered here", ("Allow", "GET, HEAD"))
    name, _, check = request.path[1:].partition("/")
    probe = PROBES_BY_PATH.get(f"/{name}")
    if probe is not None:
        return _answer_probe(name, answers.answer_probe(probe), check, request.query)
    if request.path == "/":
        return answer_dashboard(answers.get_dashboard())
    if request.path == STATUS:
        return _answer_status(answers, request, keys)
    return make_text_response(404, "nothing here; paths: " + " ".join(PATHS))


def _answer_probe(name: str, answer: ProbeAnswer, check: str, query: str) -> Response:
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return make_text_response(400, f"the query has more than {_MAX_FIELDS} fields")
    if check:
        selected = tuple(known for known in answer.checks if known.name == check)
        if not selected:
            return make_text_response(
                404, "no such check; checks: " + " ".join(known.name for known in answer.checks)
            )
        answer = _narrow_answer(answer, selected)
    if excluded := fields.get("exclude"):
        kept = tuple(known for known in answer.checks if known.name not in excluded)
        answer = _narrow_answer(answer, kept)
    return _render_answer(name, answer, verbose="verbose" in fields)


def _narrow_answer(answer: ProbeAnswer, checks: tuple[ProbeCheck, ...]) -> ProbeAnswer:
    """Judge by some of the checks only; a failure keeps the code of the whole."""
    return ProbeAnswer(200 if all(check.ok for check in checks) else answer.code, checks)


def _render_answer(name: str, answer: ProbeAnswer, *, verbose: bool) -> Response:
    passed = answer.code == 200  # noqa: PLR2004 (the one code that means yes)
    failures = "; ".join(
        f"{check.name}: {_flatten_reason(check.reason)}" for check in answer.checks if not check.ok
    )
    lines = ["ok"] if passed else [f"{name} check failed: {failures or 'no reason given'}"]
    if verbose:
        listed = [_render_check(check) for check in answer.checks]
        lines = [*listed, f"{name} check passed"] if passed else lines + listed
    return make_text_response(answer.code, "\n".join(lines))


def _render_check(check: ProbeCheck) -> str:
    return f"[+]{check.name} ok" if check.ok else f"[-]{check.name} failed: {_flatten_reason(check.reason)}"


def _flatten_reason(text: str) -> str:
    return escape_line(" ".join(text.split()))


def _answer_status(answers: Answers, request: Request, keys: Keyring) -> Response:
    brief, nonce = request.brief, request.nonce
    shown = {**answers.report_instance(), "ready": answers.is_ready()} if brief else answers.build_status()
    return make_signed_response(answers, shown, make_brief_question(nonce) if brief else nonce, nonce, keys)


def make_signed_response(answers: Answers, shown: object, asked: str, nonce: str, keys: Keyring) -> Response:
    """Build a response in JSON that names its agent, and proves that it knows the secret if asked to."""
    return sign_response(answers, msgspec.json.encode(shown), keys, asked=asked, nonce=nonce)


def sign_response(
    answers: Answers, body: bytes, keys: Keyring, *, asked: str, nonce: str, kind: str = JSON
) -> Response:
    """Build a response of this content type that names its agent, with a proof if one is asked for."""
    unit, rank, incarnation = answers.get_identity()
    headers = [(UNIT_HEADER, unit), (RANK_HEADER, str(rank)), (INCARNATION_HEADER, incarnation)]
    if keys and is_valid_nonce(nonce):
        headers.append(
            (SIGNATURE_HEADER, sign_answer(keys, AnswerClaim(asked, unit, rank, incarnation, body)))
        )
    return Response(200, body, kind, tuple(headers))


class Response(Struct, frozen=True):
    """A code and a body; the server adds the headers that all responses share."""

    code: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def make_text_response(code: int, line: str, *headers: tuple[str, str]) -> Response:
    """Build a text response for a person."""
    return Response(code, f"{line}\n".encode(), headers=headers)


_DASHBOARD_FILE = Path(__file__).with_name("dashboard.html")
_SHOWS_ATTRIBUTE = 'data-shows="{}"'


def answer_dashboard(shows: str) -> Response:
    """Return the page, which shows the ``unit`` or the whole ``store``, or say that it is ``off``."""
    if shows == "off":
        return make_text_response(404, "there is no page here: UNIT_DASHBOARD=off")
    return _load_dashboard(shows)


@functools.cache
def _load_dashboard(shows: str) -> Response:
    """Read it when it is asked for the first time; most agents are never asked."""
    text = _DASHBOARD_FILE.read_text(encoding="utf-8")
    headers = (("Content-Security-Policy", _build_content_policy(text)), ("Referrer-Policy", "no-referrer"))
    return Response(
        200,
        text.replace(_SHOWS_ATTRIBUTE.format("unit"), _SHOWS_ATTRIBUTE.format(shows), 1).encode(),
        HTML,
        headers,
    )


def _build_content_policy(text: str) -> str:
    script, style = _hash_element(text, "script"), _hash_element(text, "style")
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def _hash_element(text: str, tag: str) -> str:
    (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"


AGENT_CHECK_REQUEST = b"traffic\n"  # no request of HTTP begins so, and h11 would wait for more

# `drain` stays set in HAProxy until `ready` takes it back, `down` until `up` does.
_AGENT_CHECK_LINES = {OK: b"up ready\n", NOT_HERE: b"drain\n"}
_AGENT_CHECK_DOWN = b"down\n"


def choose_agent_check_line(code: int) -> bytes:
    """Return what this code of ``/traffic`` means for new requests."""
    return _AGENT_CHECK_LINES.get(code, _AGENT_CHECK_DOWN)


T = TypeVar("T")
CACHE_SECONDS = 0.2  # seconds


class CachedAnswers:
    """The answers of an agent; expensive ones are cached."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._made: dict[str, tuple[float, Any]] = {}

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        """Answer one of ``PROBES``, as of now."""
        return self._answers.answer_probe(probe)

    def build_status(self) -> dict[str, Any]:
        """Return what ``/status`` shows, or showed a moment ago."""
        return self._get_cached("status", self._answers.build_status)

    def report_instance(self) -> dict[str, Any]:
        """Return what this instance says of itself alone, as of now: it is little."""
        return self._answers.report_instance()

    def is_ready(self) -> bool:
        """Return whether the whole Unit serves, as of now: peers act on it."""
        return self._answers.is_ready()

    def render_metrics(self, processes: Sequence[ProcessFields] | None) -> bytes:
        """Return Prometheus text, or that of a moment ago."""
        return self._get_cached("metrics", lambda: self._answers.render_metrics(processes))

    async def list_processes(self) -> Sequence[ProcessFields]:
        """Return what each process of the workload uses."""
        return await self._answers.list_processes()

    def read_output(self, after: int) -> OutputFields:
        """Return what the workload wrote after this."""
        return self._answers.read_output(after)

    def get_identity(self) -> tuple[str, int, str]:
        """Return the Unit, the rank and the incarnation."""
        return self._answers.get_identity()

    def get_dashboard(self) -> str:
        """Return what the page at ``/`` shows."""
        return self._answers.get_dashboard()

    def list_addresses(self) -> Collection[str]:
        """Return the addresses of the Unit's instances, or those of a moment ago."""
        return self._get_cached("peers", self._answers.list_addresses)

    def _get_cached(self, name: str, make: Callable[[], T]) -> T:
        now = time.monotonic()
        at, made = self._made.get(name, (-math.inf, None))
        if now - at > CACHE_SECONDS:
            made = make()
            self._made[name] = now, made
        return cast(T, made)
