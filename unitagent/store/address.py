"""``UNIT_REDIS_URL`` taken apart: which servers to ask, as whom, and how to trust them.

Accepted forms, ``rediss`` in place of ``redis`` for TLS::

    redis://[user:password@]host[:port][/db] unix://[user:password@]/path/of/socket[?db=N]
        redis+sentinel://[user:password@]host[:port],host[:port]/service[/db][?sentinel_username=…&sentinel_password=…]
        redis+cluster://[user:password@]host[:port],host[:port]

TLS files come as ``?ssl_ca_certs=…&ssl_certfile=…&ssl_keyfile=…``. The invariant: nobody else takes such a
URL apart, so what is accepted at the start can be dialled later; and no error text shows the password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from unitagent.errors import RefusalError
from unitagent.system import working_directory
from unitagent.system.host_port import join_host_port
from unitagent.system.limits import HOST_NAME_PATTERN, MAX_HOST_NAME, MAX_PORT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REDIS_PORT, SENTINEL_PORT = 6379, 26379
_TLS_PATHS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_PATHS, "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_OPTIONS = ("db", *_SENTINEL_OPTIONS, *_TLS_OPTIONS)
_OPTION = re.compile(r"[a-z][a-z_]{0,30}")  # what may be cited: the name of an option, hardly a password
_MOST_DIGITS = 5  # of a database's number
_SPECIAL = "special characters of a password have to be percent-encoded (# is %23, / is %2F, ? is %3F)"
_FALSE = ("0", "f", "false", "n", "no", "off")


class StoreKind(StrEnum):
    """How the server that holds a Unit's keys is found."""

    DIRECT = "redis"
    UNIX = "unix"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True)
class Login:
    """The credentials for a server; empty for none.

    Attributes:
        others: further passwords, to be tried when the first is refused.

    """

    username: str = ""
    password: str = field(default="", repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)


NOBODY = Login()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLocation:
    """Where the store is.

    Attributes:
        hosts: name and port of each server that may be asked; none for a socket file.
        service: name under which the sentinels know the primary.
        tls: options of the TLS connection as redis-py names them; None for no TLS.
        asked_from: our own address, if the server is likely to have one of the same family only.
        variable: where address and password come from; ``UNIT_SECRET`` or its file for the embedded store.

    """

    kind: StoreKind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    db: int = 0
    login: Login = NOBODY
    service: str = ""
    sentinel_login: Login = NOBODY
    tls: Mapping[str, str | bool] | None = field(default=None, repr=False)
    asked_from: str = ""
    variable: str = field(default="UNIT_REDIS_URL", compare=False)

    @property
    def embedded(self) -> bool:
        """Whether rank 0's agent runs it, and no URL says where it is."""
        return self.variable.startswith("UNIT_SECRET")

    @property
    def place(self) -> str:
        """The address as a person reads it in an error."""
        return self.path or ",".join(join_host_port(*host) for host in self.hosts)


LocationSource = Callable[[], str | StoreLocation]
"""Says where the store is now: a URL, or what one means."""


def parse_store_url(url: str) -> StoreLocation:
    """Parse a store's URL.

    Raises:
        RefusalError: naming what is wrong in it, without its password.

    """
    if not url.isprintable():
        raise RefusalError("a character of it cannot be printed")
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may be those of the URL
        raise RefusalError("not a URL; expected redis://[user:password@]host[:port]") from None
    if "#" in url or "@" in parts.path:
        raise RefusalError(_SPECIAL)
    return _parse_parts(parts)


def make_embedded_location(
    host: str,
    port: int,
    passwords: Sequence[str],
    user: str = "",
    *,
    asked_from: str = "",
    variable: str = "UNIT_SECRET",
) -> StoreLocation:
    """Return the address of the embedded store at rank 0; ``host`` is an IP or a DNS name."""
    first, *others = passwords or ("",)
    return StoreLocation(
        kind=StoreKind.DIRECT,
        hosts=((host, port),),
        login=Login(user if passwords else "", first, tuple(others)),
        asked_from=asked_from,
        variable=variable,
    )


def _parse_parts(url: SplitResult) -> StoreLocation:
    secure = url.scheme.startswith("rediss")
    kind = _parse_kind(url.scheme.replace("rediss", "redis", 1))
    login, _, hosts = url.netloc.rpartition("@")
    where = () if kind is StoreKind.UNIX else _parse_hosts(hosts, kind)
    options = _parse_options(url.query, kind, secure=secure)
    words = [] if kind is StoreKind.UNIX else [unquote(word) for word in url.path.split("/") if word]
    service = words.pop(0) if kind is StoreKind.SENTINEL and words else ""
    if kind is StoreKind.SENTINEL and not service:
        raise RefusalError("the name of the primary is missing: redis+sentinel://host:port/NAME")
    if words and "db" in options:
        raise RefusalError("the database is given twice, after the host and as option db")
    return StoreLocation(
        kind=kind,
        hosts=where,
        path=_parse_socket_path(hosts, url.path) if kind is StoreKind.UNIX else "",
        db=_parse_database(words or [options.get("db", "0")], kind),
        login=_parse_login(login),
        service=service,
        sentinel_login=Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        tls=_collect_tls_options(options) if secure else None,
    )


def _parse_kind(scheme: str) -> StoreKind:
    if scheme not in list(StoreKind):  # it is not cited: it may be a name or a password without a scheme
        accepted = "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
        raise RefusalError(f"unknown scheme; expected one of {accepted}")
    return StoreKind(scheme)


def _parse_options(query: str, kind: StoreKind, *, secure: bool) -> dict[str, str]:
    if query and not all("=" in part for part in query.split("&")):
        raise RefusalError(_SPECIAL if "@" in query else "an option has no value; expected name=value")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    for name in options:
        shown = f"option {name}" if _OPTION.fullmatch(name) else "an option"
        if name not in _OPTIONS and "@" in query:
            raise RefusalError(_SPECIAL)
        if name not in _OPTIONS:
            raise RefusalError(f"{shown} is unknown; there are {', '.join(_OPTIONS)}")
        if name in _TLS_OPTIONS and not secure:
            raise RefusalError(f"{shown} needs a scheme with TLS (rediss://)")
        if name in _SENTINEL_OPTIONS and kind is not StoreKind.SENTINEL:
            raise RefusalError(f"{shown} is for redis+sentinel:// only")
    if len(options) < len(pairs):
        raise RefusalError("an option is given twice")
    return {name: value for name, value in options.items() if value}  # as an empty variable, it says nothing


def _parse_login(text: str) -> Login:
    username, _, password = text.partition(":")
    return Login(unquote(username), unquote(password))


def _parse_socket_path(host: str, path: str) -> str:
    if host or not unquote(path).startswith("/") or path.endswith("/"):
        raise RefusalError("a socket needs an absolute path: unix:///path/of/socket")
    return unquote(path)


def _parse_hosts(text: str, kind: StoreKind) -> tuple[tuple[str, int], ...]:
    default = SENTINEL_PORT if kind is StoreKind.SENTINEL else REDIS_PORT
    listed = text.split(",")
    if kind is StoreKind.DIRECT and len(listed) > 1:
        raise RefusalError("one host is expected; for several use redis+sentinel:// or redis+cluster://")
    return tuple(_parse_host(host, default) for host in listed)


def _parse_host(text: str, default: int) -> tuple[str, int]:
    name, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        name, port = text, str(default)
    if not name:
        raise RefusalError("the host is missing; expected redis://[user:password@]host[:port][/db]")
    if not port.isascii() or not port.isdigit() or len(port) > _MOST_DIGITS or not 0 < int(port) <= MAX_PORT:
        raise RefusalError(f"the port of a host is not a number from 1 to {MAX_PORT}")
    return _parse_host_name(name), int(port)


def _parse_host_name(name: str) -> str:
    """Take a DNS name, or an IP address of one machine; IPv6 in brackets."""
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        raise RefusalError("an IPv6 address needs brackets: redis://[fd00::1]:6379")
    bare = name.removeprefix("[").removesuffix("]")
    if bare != name or bare.replace(".", "").isdecimal():
        try:
            ip = ipaddress.ip_address(bare)
        except ValueError:
            raise RefusalError("a host is not an IP address") from None
        if ip.is_unspecified or ip.is_multicast:
            raise RefusalError("a host is not the address of a single machine")
        return bare
    if len(name) > MAX_HOST_NAME or not HOST_NAME_PATTERN.fullmatch(name):
        raise RefusalError("a host is neither a DNS name nor an IP address")
    return name


def _parse_database(words: list[str], kind: StoreKind) -> int:
    if len(words) > 1 or not words[0].isascii() or not words[0].isdigit() or len(words[0]) > _MOST_DIGITS:
        raise RefusalError("the database is not a number, such as 0")
    if kind is StoreKind.CLUSTER and int(words[0]):
        raise RefusalError("a cluster has only database 0")
    return int(words[0])


def _collect_tls_options(options: Mapping[str, str]) -> dict[str, str | bool]:
    tls: dict[str, str | bool] = {
        name: working_directory.resolve_user_path(value) if name in _TLS_PATHS else value
        for name, value in options.items()
        if name in _TLS_OPTIONS
    }
    if tls.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise RefusalError("option ssl_cert_reqs accepts none, optional, required")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = str(tls["ssl_check_hostname"]).lower() not in _FALSE
    return tls
