"""From a request to a response, without a socket: which path is answered how.

The invariant: the status code is the answer, for machines; the text is for people, and with every code other
than 200 its first line says why. Paths, ``?verbose`` and ``?exclude`` are as Kubernetes components have them
(https://kubernetes.io/docs/reference/using-api/health-checks/), but reasons are never withheld.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

import msgspec

from unitagent.core.probe_answers import ProbeAnswer
from unitagent.legible import line
from unitagent.probes import dashboard
from unitagent.probes.response import JSON, Response, said
from unitagent.probes.signature import (
    INCARNATION_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    UNIT_HEADER,
    Claim,
    brief_question,
    sign,
    valid_nonce,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from unitagent.core.probe_answers import ProbeCheck
    from unitagent.keys import Keyring

PATHS = ("/livez", "/healthz", "/readyz", "/traffic", "/startupz", "/status", "/metrics")

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_MAX_FIELDS = 64


class Answers(Protocol):
    """What the agent knows. Each method is called on the event loop and returns at once."""

    def live(self) -> ProbeAnswer:
        """Answer ``/livez``."""

    def ready(self) -> ProbeAnswer:
        """Answer ``/readyz``."""

    def traffic(self) -> ProbeAnswer:
        """Answer ``/traffic``."""

    def startup(self) -> ProbeAnswer:
        """Answer ``/startupz``."""

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""

    def report(self) -> dict[str, Any]:
        """Return what ``/status`` says of this instance alone."""

    def is_ready(self) -> bool:
        """Tell whether the whole Unit serves."""

    def metrics(self) -> bytes:
        """Return Prometheus text."""

    def identity(self) -> tuple[str, int, str]:
        """Return my Unit, my rank and my incarnation."""

    def peers(self) -> Collection[str]:
        """Return the addresses of all instances that are known."""

    def dashboard(self) -> str:
        """Return what the page at ``/`` shows: the ``unit``, the ``store``, or nothing: ``off``."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is looked at of an HTTP request.

    Attributes:
        path: percent-decoded.
        query: as sent, without the question mark.
        nonce: of a peer that wants a signed answer, or empty.
        brief: a peer wants to know of this instance alone, and whether the Unit serves.

    """

    method: str
    path: str
    query: str = ""
    nonce: str = ""
    brief: bool = False


def respond(answers: Answers, request: Request, keys: Keyring) -> Response:
    """Answer one request."""
    if request.method not in {"GET", "HEAD"}:
        return said(405, "only GET and HEAD are answered here", ("Allow", "GET, HEAD"))
    path, _, check = request.path[1:].partition("/")
    probe = _probe(answers, path)
    if probe is not None:
        return _probed(path, probe, check, request.query)
    if request.path == "/":
        return dashboard.page(answers.dashboard())
    if request.path == "/status":
        return _status(answers, request, keys)
    if request.path == "/metrics":
        return Response(200, answers.metrics(), _PROMETHEUS)
    return said(404, "nothing here; paths: " + " ".join(PATHS))


def _probe(answers: Answers, path: str) -> ProbeAnswer | None:
    match path:
        case "livez" | "healthz":
            return answers.live()
        case "readyz":
            return answers.ready()
        case "traffic":
            return answers.traffic()
        case "startupz":
            return answers.startup()
    return None


def _probed(path: str, answer: ProbeAnswer, check: str, query: str) -> Response:
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return said(400, f"the query has more than {_MAX_FIELDS} fields")
    if check:
        found = tuple(known for known in answer.checks if known.name == check)
        if not found:
            return said(404, "no such check; checks: " + " ".join(known.name for known in answer.checks))
        answer = _narrowed(answer, found)
    if excluded := fields.get("exclude"):
        kept = tuple(known for known in answer.checks if known.name not in excluded)
        answer = _narrowed(answer, kept)
    return _told(path, answer, verbose="verbose" in fields)


def _narrowed(answer: ProbeAnswer, checks: tuple[ProbeCheck, ...]) -> ProbeAnswer:
    """Judge by some of the checks only; a failure keeps the code of the whole."""
    return ProbeAnswer(200 if all(check.ok for check in checks) else answer.code, checks)


def _told(path: str, answer: ProbeAnswer, *, verbose: bool) -> Response:
    passed = answer.code == 200  # noqa: PLR2004 (the one code that means yes)
    failures = "; ".join(f"{check.name}: {_line(check.reason)}" for check in answer.checks if not check.ok)
    lines = ["ok"] if passed else [f"{path} check failed: {failures or 'no reason given'}"]
    if verbose:
        listed = [_listed(check) for check in answer.checks]
        lines = [*listed, f"{path} check passed"] if passed else lines + listed
    return said(answer.code, "\n".join(lines))


def _listed(check: ProbeCheck) -> str:
    return f"[+]{check.name} ok" if check.ok else f"[-]{check.name} failed: {_line(check.reason)}"


def _line(text: str) -> str:
    return line(" ".join(text.split()))


def _status(answers: Answers, request: Request, keys: Keyring) -> Response:
    unit, rank, incarnation = answers.identity()
    brief, nonce = request.brief, request.nonce
    shown = {**answers.report(), "ready": answers.is_ready()} if brief else answers.status()
    body = msgspec.json.encode(shown)
    headers = [(UNIT_HEADER, unit), (RANK_HEADER, str(rank)), (INCARNATION_HEADER, incarnation)]
    if keys and valid_nonce(nonce):
        asked = brief_question(nonce) if brief else nonce
        headers.append((SIGNATURE_HEADER, sign(keys, Claim(asked, unit, rank, incarnation, body))))
    return Response(200, body, JSON, tuple(headers))
