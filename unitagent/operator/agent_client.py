"""What agents report about their Unit at their probe addresses.

The invariant: if the Unit has a secret, an answer counts only with proof that its agent knows the secret, and
no request carries anything secret. A malformed answer counts as no answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from unitagent.errors import StoreError
from unitagent.operator.probe_client import resolve_wildcard
from unitagent.probes.answer_signature import (
    INCARNATION_HEADER,
    NONCE_HEADER,
    RANK_HEADER,
    SIGNATURE_HEADER,
    AnswerClaim,
    make_events_question,
    make_processes_question,
    verify_answer,
)
from unitagent.probes.unit_list import EVENTS
from unitagent.system.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


UNKNOWN_FORM = "its agent answered in a form this unitagent does not know; use the same version on both sides"
_ANSWER_TIMEOUT = 2.0  # seconds for an answer
_MAX_ANSWER = 4 << 20  # bytes of one: a Unit of 1024 has a quarter of that
_SECONDS_TYPES = (int, float, type(None))


class AnswerProof:
    """Proof for one request: its nonce, and the check that the answer comes from an agent that knows the
    secret. Without a secret nothing is asked for and every answer counts.

    Attributes:
        question: what the signature of the answer has to cover.

    """

    def __init__(self, unit: str, keys: Keyring, make_question: Callable[[str], str] = str) -> None:
        self._unit, self._keys = unit, keys
        self._nonce = secrets.token_hex(16)
        self.question = make_question(self._nonce)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the request."""
        return {NONCE_HEADER: self._nonce} if self._keys else {}

    def verify_answer(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this answers this very request; header names are case-insensitive."""
        if not self._keys:
            return True
        fields = {name.lower(): text for name, text in headers.items()}
        rank = fields.get(RANK_HEADER.lower(), "")
        if not (rank.isascii() and rank.isdigit()):
            return False
        claim = AnswerClaim(
            self.question, self._unit, int(rank[:9]), fields.get(INCARNATION_HEADER.lower(), ""), body
        )
        return verify_answer(self._keys, claim, fields.get(SIGNATURE_HEADER.lower(), ""))


class UnprovenError(StoreError):
    """An answer comes without proof that its sender knows the secret."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"the answer from {resolve_wildcard(host)}, port {port}, carries no proof of UNIT_SECRET and is "
            "ignored: ask an agent of this Unit (--http-address HOST:PORT), with the Unit's secret"
        )


def fetch_status(unit: str, host: str, port: int, keys: Keyring) -> dict[str, Any] | None:
    """Return ``/status`` of the agent at this address; None if no agent answers. Blocks.

    Raises:
        UnprovenError: there is a secret, and the answer carries no proof of it.

    """
    status = _fetch_json(AnswerProof(unit, keys), "/status", host, port)
    return status if isinstance(status, dict) and isinstance(status.get("instances"), list) else None


def fetch_processes(unit: str, host: str, port: int, keys: Keyring) -> list[dict[str, Any]] | None:
    """Return ``/processes`` of the agent at this address; None if no agent answers. Blocks.

    Raises:
        UnprovenError: there is a secret, and the answer carries no proof of it.

    """
    processes = _fetch_json(AnswerProof(unit, keys, make_processes_question), "/processes", host, port)
    return (
        processes if isinstance(processes, list) and all(isinstance(one, dict) for one in processes) else None
    )


def fetch_events(unit: str, host: str, port: int, keys: Keyring) -> list[dict[str, Any]]:
    """Return what the agent at this address knows of the Unit's history; nothing if it does not answer, or
    its answer carries no proof of the secret. Blocks.
    """
    try:
        known = _fetch_json(AnswerProof(unit, keys, make_events_question), EVENTS, host, port)
    except UnprovenError:
        return []
    events = known.get("events") if isinstance(known, dict) else None
    return [one for one in events if isinstance(one, dict)] if isinstance(events, list) else []


def _fetch_json(proof: AnswerProof, path: str, host: str, port: int) -> Any:
    """Return the answer at this path; None if there is none that can be read."""
    try:
        with open_connection(host, port, _ANSWER_TIMEOUT) as connection:
            connection.request("GET", path, headers=proof.headers)
            answer = connection.getresponse()
            body = answer.read(_MAX_ANSWER)
        if not proof.verify_answer(dict(answer.headers.items()), body):
            raise UnprovenError(host, port)
        return json.loads(body)
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None


def find_leader(status: dict[str, Any] | None) -> str | None:
    """Return the address of rank 0 from an agent's status; None if the agent does not know it."""
    if not status:
        return None
    first = [one.get("ip") for one in status["instances"] if isinstance(one, dict) and one.get("rank") == 0]
    return next((ip for ip in (status.get("master_address"), *first) if isinstance(ip, str) and ip), None)


def fetch_agent_fields(unit: str, host: str, port: int, keys: Keyring) -> dict[str, Any]:
    """Return what only agents know of this Unit from one of them; empty if none answers. Blocks.

    That is ``guard``, ``recovery``, and, if they have the form of this version, ``phase``, ``budget``,
    ``endpoint``, ``conditions``, ``start`` and ``engine``.
    """
    try:
        status = fetch_status(unit, host, port, keys) or {}
    except UnprovenError:
        status = {}
    guard, recovery = status.get("guard"), status.get("recovery")
    is_valid = isinstance(recovery, dict) and all(
        isinstance(took, _SECONDS_TYPES) for took in recovery.values()
    )
    if status.get("unit") != unit or not isinstance(guard, bool) or not is_valid:
        return {}
    try:
        more = msgspec.convert(status, _AgentFields)
    except msgspec.ValidationError:  # an agent of another version
        return {"guard": guard, "recovery": recovery}
    return {"guard": guard, "recovery": recovery, **msgspec.to_builtins(more)}


class _Condition(msgspec.Struct):
    type: str
    status: str
    reason: str
    message: str
    since: float | None


class _Budget(msgspec.Struct):
    used: float
    allowed: float | None
    window_seconds: float
    next_restart_seconds: float | None


class _Spare(msgspec.Struct):
    number: int
    incarnation: str
    ip: str
    port: int
    hostname: str
    since: float
    seen_seconds: float
    standing_by: bool
    answers: bool | None


class _Spares(msgspec.Struct):
    wanted: int | None
    standing_by: int
    unreachable: int
    message: str
    members: list[_Spare] = msgspec.field(name="list")


class _AgentFields(msgspec.Struct):
    """What agents of this version tell besides."""

    phase: str
    budget: _Budget
    endpoint: str | None
    conditions: list[_Condition]
    start: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    spares: _Spares | None = None


@contextlib.contextmanager
def open_connection(host: str, port: int, timeout: float) -> Iterator[http.client.HTTPConnection]:
    """Open a connection for one request, which is aborted after ``timeout`` seconds: a socket's own timeout
    restarts with each byte, so a slow sender could block a command for ever.
    """
    connection = http.client.HTTPConnection(resolve_wildcard(host), port, timeout=timeout)
    connection.connect()
    end = threading.Timer(timeout, _abort_socket, [connection.sock])  # which the connection soon forgets
    end.daemon = True
    end.start()
    try:
        yield connection
    finally:
        end.cancel()
        connection.close()


def _abort_socket(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
