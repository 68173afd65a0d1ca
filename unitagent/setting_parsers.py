"""Parse the text of a setting to its value: one small parser for each kind.

The invariant: a parser takes any text and either returns a value or raises ``ValueError``; the table of
variables tells people what it accepts. Parsers of options that are no variables raise
``argparse.ArgumentTypeError``, which tells it. Health checks need some of the parsers, so what only one of
them needs is imported inside it.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING

from unitagent.errors import RefusalError
from unitagent.system.limits import (
    HOST_NAME_PATTERN,
    MAX_HOST_NAME,
    MAX_PORT,
    MAX_SECONDS,
    MAX_UNIT_SIZE,
    NAME_PATTERN,
)

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Callable, Iterable


_LONGEST_INTERFACE = 127  # ALTIFNAMSIZ less the closing zero; an interface may be called by another name
_IPV6 = 6
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_SCHEME = re.compile(r"([A-Za-z+]{1,16})://")
_ONE_INTERFACE = (
    "it takes no list, no = and no ^: name the one interface by which the ranks reach each other; where the "
    "workload needs several interfaces, set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to them as well"
)
_HTTP_SCHEMES = frozenset({"http", "https"})


def format_value(value: object) -> str:
    """Format a parsed value as it is written."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def parse_text(value: str) -> str:
    """Parse anything that is printable and on one line."""
    if not value.isprintable():
        raise ValueError
    return value


def parse_command_line(value: str) -> tuple[str, ...]:
    """Split a command into words as a shell does, without running one."""
    import shlex  # noqa: PLC0415 (few have one)

    words = tuple(shlex.split(parse_text(value)))
    if not words or not words[0]:
        raise ValueError(value)
    return words


def parse_readiness(value: str) -> str:
    """Check how a keeper tells that it is ready; a port or a URL may hold placeholders."""
    kind, separator, rest = parse_text(value).partition(":")
    if not separator or not rest or kind not in {"http", "https", "tcp", "file", "log"}:
        raise ValueError(value)
    if kind == "log":
        try:
            re.compile(rest)
        except re.error as error:
            raise RefusalError(f"not a regular expression: {error}") from None
    return value if "{" in rest else parse_filled_readiness(value)


def parse_filled_readiness(value: str) -> str:
    """Check the same once its placeholders are filled in: braces that are left stand for nothing."""
    kind, _, rest = value.partition(":")
    if kind == "tcp":
        parse_port(rest)
    if kind in _HTTP_SCHEMES:
        parse_http_url(value)
    return value


def parse_absolute_path(value: str) -> str:
    """Return an absolute path: a relative one would depend on where each process stands."""
    if not value.startswith("/"):
        raise ValueError(value)
    return parse_text(value)


def parse_secrets(value: str) -> tuple[str, ...]:
    """Parse up to some printable lines, each too long to be guessed; empty ones do not count."""
    from unitagent.system.keyring import MAX_SECRETS, MIN_SECRET_BYTES  # noqa: PLC0415

    lines = {number: line.strip() for number, line in enumerate(value.split("\n"), 1) if line.strip()}
    for number, line in lines.items():
        if not line.isprintable():
            raise RefusalError(f"line {number} has unprintable characters")
        if (length := len(line.encode())) < MIN_SECRET_BYTES:
            raise RefusalError(f"line {number} has {length} bytes, needs {MIN_SECRET_BYTES}")
    if not lines:
        raise ValueError
    if len(lines) > MAX_SECRETS:
        raise RefusalError(f"got {len(lines)} lines, at most {MAX_SECRETS}")
    return tuple(dict.fromkeys(lines.values()))


def parse_name(value: str) -> str:
    """Parse the name of a Unit or of a service."""
    return _match_pattern(NAME_PATTERN, value)


def parse_boolean(value: str) -> bool:
    """Parse the usual words for yes and no, in any case."""
    lowered = value.lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError
    return lowered in _TRUE


def make_integer_parser(least: int, most: int) -> Callable[[str], int]:
    """Parse whole decimal numbers in a range."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdecimal()) or not least <= int(value) <= most:
            raise ValueError
        return int(value)

    return parse


parse_size = make_integer_parser(1, MAX_UNIT_SIZE)
parse_port = make_integer_parser(1, MAX_PORT)


def parse_rank(value: str) -> int | None:
    """Parse a rank; ``auto`` is None."""
    return None if value.lower() == "auto" else make_integer_parser(0, MAX_UNIT_SIZE - 1)(value)


def make_seconds_parser(least: float = 0.0) -> Callable[[str], float]:
    """Parse a duration; ``nan`` fails the comparison, ``inf`` the upper bound."""

    def parse(value: str) -> float:
        if "_" in value or not least <= float(value) <= MAX_SECONDS:
            raise ValueError
        return float(value)

    return parse


def parse_durations(value: str) -> tuple[float, ...]:
    """Parse a comma list of durations."""
    return tuple(make_seconds_parser()(item.strip()) for item in value.split(","))


def join_words(words: Iterable[str]) -> str:
    """Return ``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def suggest_word(word: str, accepted: Iterable[str], cutoff: float) -> str:
    """Return "; did you mean …?" with the accepted word that is most like this one; empty if none is.

    ``cutoff`` is how like it must be, from 0 to 1.
    """
    from difflib import get_close_matches  # noqa: PLC0415 (2 ms that only a mistake costs)

    near = get_close_matches(word, list(accepted), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]}?" if near else ""


def make_choice_parser(*accepted: str) -> Callable[[str], str]:
    """Parse one of some words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in accepted:
            raise ValueError
        return value.lower()

    return parse


def parse_interface(value: str) -> str:
    """Parse a name of one network interface as the kernel accepts it, without NCCL's syntax for several."""
    if value.startswith(("=", "^")) or "," in value:
        raise RefusalError(_ONE_INTERFACE)
    unfit = not 0 < len(value) <= _LONGEST_INTERFACE or value in {".", ".."}
    if unfit or not value.isprintable() or any(c in "/: " for c in value):
        raise ValueError
    return value


def parse_address(value: str) -> str:
    """Parse an IP address that other machines can reach: no zone, no wildcard, no multicast. IPv6 may be in
    brackets.
    """
    ip = _parse_bare_ip(value)
    if "%" in value or ip.is_unspecified or ip.is_multicast or (ip.version == _IPV6 and ip.is_link_local):
        raise ValueError
    return str(ip)


def _parse_bare_ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address in brackets or not; IPv4 within IPv6 (``::ffff:10.0.0.1``) becomes IPv4."""
    import ipaddress  # noqa: PLC0415

    bracketed = value.startswith("[") and value.endswith("]")
    ip = ipaddress.IPv6Address(value[1:-1]) if bracketed else ipaddress.ip_address(value)
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def parse_hosts(value: str) -> tuple[str, ...]:
    """Parse names as a request's ``Host`` has them, of one host each or of all below (``*.name``)."""
    names = tuple(part.strip() for part in value.split(","))
    for name in names:
        parse_host(name.removeprefix("*."))
    return names


def parse_paths(value: str) -> tuple[str, ...]:
    """Parse paths with commas between them."""
    paths = tuple(part.strip() for part in parse_text(value).split(","))
    if not all(paths):
        raise ValueError
    return paths


def parse_modules(value: str) -> tuple[str, ...]:
    """Parse names of Python modules."""
    names = tuple(part.strip() for part in value.split(","))
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError
    return names


def parse_host(value: str) -> str:
    """Parse an IP address or a DNS name, without a port."""
    if ":" in value or value.startswith("[") or value.replace(".", "").isdecimal():
        return parse_address(value)
    if len(value) > MAX_HOST_NAME:
        raise ValueError
    return _match_pattern(HOST_NAME_PATTERN, value)


def parse_listen_address(value: str) -> tuple[str, int]:
    """Parse ``host:port`` to listen on, ``[ipv6]:port``, or ``off``, which is port 0."""
    if value.lower() == "off":
        return "", 0
    where, _, number = value.rpartition(":")
    if where.startswith("[") and where.endswith("]"):
        return str(_parse_bare_ip(where)), parse_port(number)
    if ":" in where or len(where) > MAX_HOST_NAME:
        raise ValueError
    return _match_pattern(HOST_NAME_PATTERN, where), parse_port(number)


def parse_http_url(value: str) -> str:
    """Parse an ``http`` or ``https`` URL."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    parts = urlsplit(parse_text(value))
    if parts.scheme not in _HTTP_SCHEMES or not parts.hostname or " " in value or parts.port == 0:
        raise ValueError
    return value


def parse_warm_up(value: str) -> str:
    """Parse the URL of a warm-up request, or one of the words in its place."""
    return value if value in {"off", "auto"} else parse_http_url(value)


def parse_json_text(value: str) -> str:
    """Parse JSON in one line; it is kept as it is written."""
    import json  # noqa: PLC0415

    json.loads(parse_text(value))
    return value


def parse_store_url(value: str) -> str:
    """Parse what the store will take, by its form alone; nothing is resolved or connected to."""
    from unitagent.store.address import parse_store_url  # noqa: PLC0415

    parse_store_url(value)
    return value


def redact_url(value: str) -> str:
    """Hide the user part of a URL and whatever its query says about passwords and keys.

    Of one that is not understood only the scheme is shown: who forgot the host has his password in its place.
    """
    from unitagent.system import redaction  # noqa: PLC0415

    scheme = _SCHEME.match(value)
    if scheme is None:
        return redaction.HIDDEN
    try:
        (parse_http_url if scheme[1] in _HTTP_SCHEMES else parse_store_url)(value)
    except ValueError:
        return f"{scheme[0]}{redaction.HIDDEN}"
    return redaction.redact_url(value)


def has_password(url: str) -> bool:
    """Whether a URL carries a password, in its user part or its query."""
    user = re.search(r"//(.*)@", url, flags=re.DOTALL)
    return bool(user and ":" in user[1]) or bool(re.search(r"(?i)[?&]\w*pass\w*=.", url))


def _match_pattern(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError
    return value


# Options of commands that are no variables.

_SHORTEST_TIMEOUT = 0.001  # seconds; 0 would mean not to wait at all
_SHORTEST_PAUSE = 1.0  # seconds
_MAX_GENERATION = 10**16


def parse_timeout(text: str) -> float:
    """Parse seconds to wait."""
    try:
        return make_seconds_parser(_SHORTEST_TIMEOUT)(text)
    except ValueError as error:
        accepted = f"a number of seconds from {_SHORTEST_TIMEOUT:g} to {MAX_SECONDS:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}") from error


def parse_since(text: str) -> float:
    """Parse a moment, or how long ago it was; return seconds since the epoch."""
    from unitagent.operator.history import event_text  # noqa: PLC0415 (rarely needed)

    try:
        return event_text.parse_since(text, time.time())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {event_text.ACCEPTED}") from error


def parse_generation(text: str) -> int:
    """Parse the number of a generation."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:17]) < _MAX_GENERATION):
        raise argparse.ArgumentTypeError(f"{text!r}: must be the number of a generation, such as 3")
    return int(text)


def parse_pause(text: str) -> float:
    """Parse how long a pause of restarts lasts; return seconds."""
    from unitagent.core.restart_pause import LONGEST_PAUSE  # noqa: PLC0415 (rarely needed)
    from unitagent.operator.history.event_text import parse_duration  # noqa: PLC0415

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_PAUSE <= seconds <= LONGEST_PAUSE:
        accepted = "a duration from 1s to 1d, such as 30s, 10m, 2h or plain seconds"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {accepted}")
    return seconds
