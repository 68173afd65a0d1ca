"""The checks of a service file, in its own terms: what is asked, how often, and how many answers decide.

The invariant: a ``Check`` asks in exactly one way. What the file does not state stays None, so that our own
defaults apply: Alibaba's pages disagree about theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitagent.discovery.json_reader import JsonReader

KINDS = ("startup_check", "liveness_check", "health_check", "readiness_check")
_TIMINGS = ("initial_delay_seconds", "period_seconds", "timeout_seconds")
_COUNTS = ("success_threshold", "failure_threshold")
_WAYS = ("http_get", "tcp_socket", "exec")
_HIGHEST_PORT = 65535
_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCheck:
    """One check; one of ``url``, ``port`` and ``command`` is set. Durations are in seconds.

    Attributes:
        path: of the check in the file.
        url: asked with GET at this machine, healthy on 200 to 399.
        port: healthy when it takes a TCP connection.
        command: healthy when it exits 0.

    """

    path: str
    url: str | None = None
    port: int | None = None
    command: tuple[str, ...] = ()
    initial_delay: float | None = None
    period: float | None = None
    timeout: float | None = None
    successes: int | None = None
    failures: int | None = None


def read_check(container: JsonReader, kind: str) -> ServiceCheck | None:
    """Read one check of a container, None when it is absent or was refused."""
    check = container.read_object(kind)
    if not check.content:
        return None
    check.note_others_unknown(*_WAYS, *_TIMINGS, *_COUNTS)
    asked = [way for way in _WAYS if check.content.get(way) is not None]
    if len(asked) != 1:
        container.add_problem(kind, "an object with one of http_get, tcp_socket and exec")
        return None
    return ServiceCheck(
        path=check.path,
        url=_read_url(check, container) if asked == ["http_get"] else None,
        port=_read_port(check.read_object("tcp_socket"), container) if asked == ["tcp_socket"] else None,
        command=_read_command(check.read_object("exec")) if asked == ["exec"] else (),
        initial_delay=check.read_number("initial_delay_seconds"),
        period=check.read_number("period_seconds", 1),
        timeout=check.read_number("timeout_seconds", 1),
        successes=check.read_integer("success_threshold", 1, _MOST),
        failures=check.read_integer("failure_threshold", 1, _MOST),
    )


def _read_url(check: JsonReader, container: JsonReader) -> str | None:
    """Give the URL; the path defaults to / as in Kubernetes, the port to the container's."""
    get = check.read_object("http_get")
    get.note_others_unknown("path", "port", "scheme")
    scheme, path, port = (
        (get.read_text("scheme") or "http").lower(),
        get.read_text("path") or "/",
        _read_port(get, container),
    )
    if scheme not in {"http", "https"}:
        get.add_problem("scheme", "HTTP or HTTPS")
    if not path.isprintable() or " " in path:
        get.add_problem("path", "the path of a URL")
    return f"{scheme}://127.0.0.1:{port}/{path.lstrip('/')}" if port else None


def _read_port(where: JsonReader, container: JsonReader) -> int | None:
    if where.content.get("port") is None and container.content.get("port") is None:
        where.add_problem("port", "a port, here or at containers[0].port")
    own = where.read_integer("port", 1, _HIGHEST_PORT)
    return own if where.content.get("port") is not None else container.content.get("port")


def _read_command(where: JsonReader) -> tuple[str, ...]:
    where.note_others_unknown("command")
    command = where.read_texts("command")
    if not command:
        where.add_problem("command", "a list of strings, the program first")
    return command
