"""A service file (EAS ``service.json``): what it says about the Unit, in our own terms.

The invariant: any text yields a ``ServiceFile`` or one ``ConfigurationError`` with the path of every
problem. Alibaba's pages put several keys in several places; all of them are read. Unknown keys cause a
warning only, since the platform adds keys faster than we learn of them. A ``ServiceCheck`` asks in exactly
one way; what the file omits stays None, so that our own defaults apply: Alibaba's pages disagree about
theirs.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from unitagent.discovery.json_reader import JsonReader
from unitagent.discovery.service_keys import KEYS, expand_dotted_keys, note_unknown_keys
from unitagent.errors import ConfigurationError
from unitagent.system.limits import MAX_PORT, MAX_UNIT_SIZE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


KINDS = ("startup_check", "liveness_check", "health_check", "readiness_check")
_TIMINGS = ("initial_delay_seconds", "period_seconds", "timeout_seconds")
_COUNTS = ("success_threshold", "failure_threshold")
_WAYS = ("http_get", "tcp_socket", "exec")
_MAX_INTEGER = 1_000_000


class ServiceCheck(Struct, frozen=True, kw_only=True):
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
    check.record_unknown_keys(*_WAYS, *_TIMINGS, *_COUNTS)
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
        successes=check.read_integer("success_threshold", 1, _MAX_INTEGER),
        failures=check.read_integer("failure_threshold", 1, _MAX_INTEGER),
    )


def _read_url(check: JsonReader, container: JsonReader) -> str | None:
    """Return the URL; the path defaults to / as in Kubernetes, the port to the container's."""
    get = check.read_object("http_get")
    get.record_unknown_keys("path", "port", "scheme")
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
    own = where.read_integer("port", 1, MAX_PORT)
    return own if where.content.get("port") is not None else container.content.get("port")


def _read_command(where: JsonReader) -> tuple[str, ...]:
    where.record_unknown_keys("command")
    command = where.read_texts("command")
    if not command:
        where.add_problem("command", "a list of strings, the program first")
    return command


_MOST_UNITS = 1_000_000
SHELL = ("/bin/sh", "-c")
_CONTAINER = ("image", "port", "script", "command", "args", "env", "prepare", "resources", "name", *KINDS)


class StatedValue(Struct, frozen=True):
    """A value for the table of variables, as text, and the path of the key that stated it."""

    text: str
    path: str


class ServiceFile(Struct, frozen=True, kw_only=True):
    """What a service file says.

    Attributes:
        values: variable of the table -> what the file states for it.
        checks: ``startup_check`` and so on -> the check, in the file's own terms.
        command: the workload's argv, empty when the file gives none.
        environment: ``containers[0].env``, less the variables that are in ``values``.
        sigterm: ``rpc.enable_sigterm``, None when unset; EAS sends no signal unless it is true.
        warnings: sentences for the log.

    """

    values: Mapping[str, StatedValue] = field(default_factory=dict)
    checks: Mapping[str, ServiceCheck] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    sigterm: bool | None = None
    warnings: tuple[str, ...] = ()


def parse_service_file(text: str, path: str, variables: Collection[str] = ()) -> ServiceFile:
    """Read the text of a service file.

    Args:
        text: of the file.
        path: of the file, for messages.
        variables: names that are settings, not environment, when ``containers[0].env`` has them.

    Raises:
        ConfigurationError: it is not a JSON object, or members have wrong types; lists all of them.

    """
    root = JsonReader("", expand_dotted_keys(_load_document(text, path), KEYS))
    metadata, containers = root.read_object("metadata"), root.read_objects("containers")
    container = containers[0] if containers else JsonReader("containers[0]", {}, root.problems, root.unknown)
    note_unknown_keys(root, KEYS)
    container.record_unknown_keys(*_CONTAINER)
    metadata.read_integer("instance", 0, _MOST_UNITS)  # the number of Units is up to the platform
    checks = {kind: check for kind in KINDS if (check := read_check(container, kind))}
    environment = dict(_read_environment(container))
    result = ServiceFile(
        values=dict(_list_values(root, metadata, container))
        | dict(_check_values(checks))
        | {
            n: StatedValue(v, f"containers[0].env {n}")
            for n, v in environment.items()
            if v and n in variables
        },
        checks=checks,
        command=_read_workload_command(container),
        environment={n: v for n, v in environment.items() if n not in variables},
        sigterm=_read_sigterm(root, metadata),
        warnings=tuple(
            f"UNIT_CONFIG={path!r}: {warning}" for warning in _list_warnings(root, container, len(containers))
        ),
    )
    if root.problems:
        raise ConfigurationError(
            *(f"UNIT_CONFIG={path!r}: {problem}; correct the file" for problem in root.problems)
        )
    return result


def _load_document(text: str, path: str) -> dict[str, Any]:
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"UNIT_CONFIG={path!r} is not JSON: {error}; correct the file") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"UNIT_CONFIG={path!r}: must be a JSON object; correct the file")
    return document


def _list_values(
    root: JsonReader, metadata: JsonReader, container: JsonReader
) -> Iterator[tuple[str, StatedValue]]:
    unit = root.read_object("unit")
    for place in (metadata, root):
        if name := place.read_text("name"):
            yield "UNIT_SERVICE", StatedValue(name, place.format_path("name"))
            break
    size, guard = unit.read_integer("size", 1, MAX_UNIT_SIZE), unit.read_flag("guard")
    port = container.read_integer("port", 1, MAX_PORT)
    if size is not None:
        yield "UNIT_SIZE", StatedValue(str(size), "unit.size")
    if guard is not None:
        yield "UNIT_GUARD", StatedValue(str(guard).lower(), "unit.guard")
    if port is not None:
        yield "UNIT_TRAFFIC_PORT", StatedValue(str(port), "containers[0].port")
    for place in (
        root.read_object("eas"),
        metadata.read_object("eas"),
        root.read_object("runtime"),
        metadata.read_object("runtime"),
    ):
        grace = place.read_number("termination_grace_period")
        if grace is not None:
            yield (
                "UNIT_STOP_GRACE_SECONDS",
                StatedValue(f"{_shorten_grace(grace):g}", place.format_path("termination_grace_period")),
            )
            return


def _shorten_grace(grace: float) -> float:
    """Leave some of the container's grace for the last SIGKILL and the agent's own end: 30 s become 25 s."""
    return round(grace - min(5.0, grace / 6), 3)


def _check_values(checks: Mapping[str, ServiceCheck]) -> Iterator[tuple[str, StatedValue]]:
    """Health is what the file restarts a container for; readiness alone never does, so it is no health."""
    life = checks.get("liveness_check") or checks.get("health_check")
    if life:
        values = {
            "UNIT_HEALTH_URL": life.url,
            "UNIT_HEALTH_INTERVAL_SECONDS": life.period,
            "UNIT_HEALTH_TIMEOUT_SECONDS": life.timeout,
            "UNIT_HEALTH_FAILURES": life.failures,
        }
        for variable, value in values.items():
            if value is not None:
                yield (
                    variable,
                    StatedValue(f"{value:g}" if isinstance(value, float) else str(value), life.path),
                )
    startup = checks.get("startup_check")
    if startup and startup.failures:
        allowed = (startup.initial_delay or 0) + (startup.period or _USUAL_PERIOD) * startup.failures
        yield "UNIT_STARTUP_SECONDS", StatedValue(f"{allowed:g}", startup.path)


_USUAL_PERIOD = 10.0  # of Kubernetes, whose probes these are


def _read_workload_command(container: JsonReader) -> tuple[str, ...]:
    """Return argv: ``script`` is a shell's text; ``command`` and ``args`` are shell-quoted words or a list.

    So EAS has it: ``script`` takes whole scripts, parted by newlines or semicolons; ``command`` is for images
    without a shell.
    """
    script = container.read_text("script") or ""
    if script.strip():
        return (*SHELL, script) if _check_passable(container, "script", (script,)) else ()
    return _read_words(container, "command") + _read_words(container, "args")


def _read_words(container: JsonReader, key: str) -> tuple[str, ...]:
    try:
        listed = isinstance(container.content.get(key), list)
        words = container.read_texts(key) if listed else tuple(shlex.split(container.read_text(key) or ""))
    except ValueError as error:
        container.add_problem(key, f"a shell-quoted command line ({error})")
        return ()
    return words if _check_passable(container, key, words) else ()


def _check_passable(container: JsonReader, key: str, words: tuple[str, ...]) -> bool:
    """Whether these words can be arguments of a program; reports the key otherwise."""
    passable = all(map(_is_passable, words))
    if not passable:
        container.add_problem(key, "valid Unicode without NUL bytes")
    return passable


def _read_environment(container: JsonReader) -> Iterator[tuple[str, str]]:
    for entry in container.read_objects("env"):
        entry.record_unknown_keys("name", "value")
        name, value = entry.read_text("name"), entry.content.get("value", "")
        if not name or "=" in name or not _is_passable(name):
            entry.add_problem("name", "the name of a variable")
        elif not isinstance(value, str) or not _is_passable(value):
            entry.add_problem("value", "a string without zero bytes")
        else:
            yield name, value


def _is_passable(text: str) -> bool:
    """Whether the kernel takes this as an argument or in an environment; JSON can spell half a character."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _read_sigterm(root: JsonReader, metadata: JsonReader) -> bool | None:
    notices = [
        place.read_flag("enable_sigterm") for place in (root.read_object("rpc"), metadata.read_object("rpc"))
    ]
    return next((flag for flag in notices if flag is not None), None)


def _list_warnings(root: JsonReader, container: JsonReader, containers: int) -> Iterator[str]:
    if root.unknown:
        yield f"unknown keys ignored: {', '.join(root.unknown)}"
    for kind in KINDS:
        if container.content.get(kind) == {}:
            yield f"{container.format_path(kind)} is empty, so nothing is asked"
    for key in ("command", "args"):
        if container.content.get("script") and container.content.get(key):
            yield f"{container.format_path(key)} is ignored beside script"
    if containers > 1:
        yield f"{containers} containers, of which only the first is read"
