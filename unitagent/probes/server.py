"""The probe address: HTTP, and HAProxy's agent-check, answered on the agent's own event loop.

The invariant: an answer proves that the loop runs. There is no thread and no second loop, so an agent that
hangs fails its liveness probe; and no request can raise an exception out of here.

Only known names are accepted in a request's ``Host``. A page whose name was made to lead here (DNS
rebinding) sends its own name and is refused; an IP address, ``localhost``, a name of this host or Unit, or
no name at all is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from unitagent.core.probe_paths import TRAFFIC
from unitagent.errors import ConfigurationError
from unitagent.probes import answers
from unitagent.probes.admission import Acceptor, Client, ClientTable, FairQueue, compute_connection_limit
from unitagent.probes.answer_signature import (
    BRIEF_HEADER,
    CHALLENGE_HEADER,
    NONCE_HEADER,
    PROOF_HEADER,
    make_events_question,
    make_processes_question,
)
from unitagent.probes.answers import (
    EVIDENCE,
    LOGS,
    METRICS,
    PROCESSES,
    PROMETHEUS,
    CachedAnswers,
    Request,
    Response,
    answer_request,
    make_signed_response,
    make_text_response,
    sign_response,
)
from unitagent.probes.process_sampler import ProcessSampler
from unitagent.probes.unit_list import EVENTS, UnitAnswers
from unitagent.system.addresses import bind_tcp, enable_keepalive, is_ip_literal
from unitagent.system.host_port import join_host_port
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import escape_line

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    import h11

    from unitagent.probes.answers import Answers, ProcessFields
    from unitagent.probes.workload_pages import EvidencePages, EvidenceSource, LogAnswers

_log = logging.getLogger(__name__)


class ProbeServer:
    """Answers probes and peers.

    Args:
        answers: of this agent.
        keys: that answers to peers are signed with; None for none.
        units: what the page shows of the store; None without a page.
        hosts: the names by which it may be asked.
        size: of the Unit, whose instances may all hold a connection.
        evidence: that was collected here; None if none ever is.

    """

    def __init__(
        self,
        answers: Answers,
        keys: Keyring | None = None,
        units: UnitAnswers | None = None,
        hosts: AllowedHosts | None = None,
        size: int = 1,
        *,
        evidence: EvidenceSource | None = None,
    ) -> None:
        self._hosts = hosts or AllowedHosts()
        self._answers = CachedAnswers(answers)
        self._units = units
        self._processes = ProcessSampler(answers.list_processes)
        self._keys = keys if keys is not None else Keyring()
        self._clients = ClientTable(compute_connection_limit(size), self._answers.list_addresses)
        self._queue = FairQueue()
        self._evidence = evidence
        self._pages: EvidencePages | None = None
        self._acceptor: Acceptor | None = None
        self._logs: LogAnswers | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the actual port.

        Raises:
            ConfigurationError: the address cannot be listened on.

        """
        listener = await _open_listener(host, port)
        self._acceptor = Acceptor(listener, self._clients, self._make_connection)
        self._acceptor.open_listener()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut off every connection."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._clients.close()
            self._processes.close()
            if self._units is not None:
                self._units.close()
            self._acceptor = None
            await asyncio.sleep(0)  # lets the transports call connection_lost

    def _make_connection(self, client: Client) -> asyncio.Protocol:
        """Make the protocol for a client. The first one imports h11, so that no start waits for it."""
        from unitagent.probes.connections import ProbeConnection  # noqa: PLC0415

        return ProbeConnection(
            self._answer_request, client, self._clients, self._queue, self._choose_agent_line
        )

    def _answer_request(self, request: h11.Request, *, own: bool) -> Response | Coroutine[Any, Any, Response]:
        """Answer at once; later if that takes a while. ``own``: it comes from this host or an instance."""
        headers = dict(request.headers)
        path, _, query = request.target.partition(b"?")
        if (refusal := self._hosts.refuse_host(headers.get(b"host", b""))) is not None:
            return refusal
        if _has_body(headers):
            return _BODY
        parsed = Request(
            request.method.decode(),
            unquote(path.decode()),
            query.decode("latin-1"),
            _get_header(headers, NONCE_HEADER),
            BRIEF_HEADER.lower().encode() in headers,
            _get_header(headers, CHALLENGE_HEADER),
            _get_header(headers, PROOF_HEADER),
        )
        if self._units is not None and self._units.answers_path(parsed.method, parsed.path):
            return self._answer_units(self._units, parsed)
        if parsed.method in {"GET", "HEAD"}:
            if parsed.path == PROCESSES:
                return self._answer_processes(parsed.nonce)
            if parsed.path == METRICS:
                return self._answer_metrics()
            if self._evidence is not None and f"{parsed.path}/".startswith(f"{EVIDENCE}/"):
                return self._answer_evidence(self._evidence, parsed, own=own)
            if parsed.path == LOGS:
                return self._answer_logs(parsed, own=own)
        return self._answer_probe(parsed)

    async def _answer_units(self, units: UnitAnswers, request: Request) -> Response:
        """Answer with what the page shows; a command that asks for the history gets a proof."""
        response = await units.answer_path(request.path)
        if request.path != EVENTS or not request.nonce or response.code != 200:  # noqa: PLR2004
            return response
        asked = make_events_question(request.nonce)
        return sign_response(self._answers, response.body, self._keys, asked=asked, nonce=request.nonce)

    async def _answer_logs(self, request: Request, *, own: bool) -> Response:
        """Answer with the workload's output; few agents are ever asked for it."""
        from unitagent.probes.workload_pages import LogAnswers  # noqa: PLC0415

        if self._logs is None:
            self._logs = LogAnswers(self._answers, self._keys)
        try:
            return await self._logs.answer_request(request, own=own)
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            return _report_failure("the output of the workload could not be read")

    async def _answer_processes(self, nonce: str) -> Response:
        processes = await self._sample_processes()
        if processes is None:
            return _INTERNAL_ERROR
        question = make_processes_question(nonce)
        return make_signed_response(self._answers, processes, question, nonce, self._keys)

    async def _answer_evidence(self, source: EvidenceSource, request: Request, *, own: bool) -> Response:
        from unitagent.probes.workload_pages import EvidencePages  # noqa: PLC0415 (rarely asked for)

        self._pages = self._pages or EvidencePages(source, self._answers, self._keys)
        try:
            return await self._pages.answer_request(request, own=own)
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            return _report_failure("the evidence could not be read")

    async def _answer_metrics(self) -> Response:
        """Answer without the workload's processes if they cannot be sampled in time."""
        processes = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_SAMPLE_TIMEOUT):
                processes = await self._sample_processes()
        try:
            return Response(200, self._answers.render_metrics(processes), PROMETHEUS)
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            return _report_failure("the metrics could not be written")

    async def _sample_processes(self) -> Sequence[ProcessFields] | None:
        try:
            return await self._processes.read()
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            _report_failure("the processes of the workload could not be sampled")
            return None

    def _choose_agent_line(self) -> bytes:
        return answers.choose_agent_check_line(self._answer_probe(_TRAFFIC).code)

    def _answer_probe(self, request: Request) -> Response:
        try:
            return answer_request(self._answers, request, self._keys)
        except Exception:  # noqa: BLE001 (whatever fails here, the agent goes on)
            return _report_failure(f"a probe of {request.path} could not be answered")


_SAMPLE_TIMEOUT = 2.0  # seconds that a scrape waits for the workload's processes
_TRAFFIC = Request("GET", TRAFFIC.path)
_INTERNAL_ERROR = Response(500, b"internal error of the agent; its log says more\n")
_BODY = Response(413, b"a request must not have a body\n", headers=(("Connection", "close"),))


def _report_failure(what: str) -> Response:
    """Log an exception that is being handled, and return the answer for it."""
    _log.error("%s", what)
    _log.debug("why", exc_info=True)
    return _INTERNAL_ERROR


def _get_header(headers: dict[bytes, bytes], name: str) -> str:
    return headers.get(name.lower().encode(), b"").decode("latin-1")


def _has_body(headers: dict[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def _open_listener(host: str, port: int) -> socket.socket:
    try:
        return await _bind_first_address(host.strip("[]"), port)
    except (OSError, OverflowError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(
            f"UNIT_HTTP_ADDRESS={join_host_port(host, port)}: cannot listen there: {why}; "
            "give an address of this machine and a free port, or 'off'"
        ) from error


async def _bind_first_address(host: str, port: int) -> socket.socket:
    """Bind to the first address of ``host``."""
    if is_ip_literal(host):
        return _prepare_listener(bind_tcp(host, port))
    entries = await asyncio.get_running_loop().getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    address, _, *scope = entries[0][4]
    return _prepare_listener(bind_tcp(str(address), port, *map(int, scope)))


def _prepare_listener(listener: socket.socket) -> socket.socket:
    try:
        enable_keepalive(listener, idle=30, interval=10)  # accepted connections inherit it
    except OSError:
        listener.close()
        raise
    return listener


MISDIRECTED = 421
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_MAX_SHOWN_HOST = 100  # characters


class AllowedHosts:
    """The names that are accepted in ``Host``.

    Args:
        names: without a port, in any case; one that begins with ``*.`` is of all names below.

    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        normalized = {_normalize_name(name) for name in names}
        self._names = {name for name in normalized if name and not name.startswith("*.")} | {"localhost"}
        self._below = tuple(name[1:] for name in normalized if name.startswith("*."))

    def refuse_host(self, host: bytes) -> Response | None:
        """Return the refusal of a request with this ``Host``, or None if it is allowed."""
        text = host.decode("latin-1").strip()
        if not text or self._is_allowed(text):
            return None
        return make_text_response(
            MISDIRECTED,
            f"the Host {escape_line(text)[:_MAX_SHOWN_HOST]!r} is not a name of this agent; ask by its IP "
            "address, or set UNIT_HTTP_HOSTS to its other names (separated by commas; *.name stands for all "
            "names below one)",
        )

    def _is_allowed(self, text: str) -> bool:
        match = _HOST.fullmatch(text)
        name = _normalize_name(match[1]) if match else ""
        return name in self._names or name.endswith(self._below) or _is_address(name)


def parse_etc_hosts(etc_hosts: str) -> set[str]:
    """Return all names in the text of ``/etc/hosts``, which only the owner of this machine writes."""
    words = (row.partition("#")[0].split()[1:] for row in etc_hosts.splitlines())
    return {name for row in words for name in row}


def _normalize_name(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True
