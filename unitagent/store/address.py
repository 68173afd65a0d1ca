"""``UNIT_REDIS_URL`` taken apart: which servers to ask, as whom, and how to trust them.

Accepted forms, ``rediss`` in place of ``redis`` for TLS::

    redis://[user:password@]host[:port][/db]
    unix://[user:password@]/path/of/socket[?db=N]
    redis+sentinel://[user:password@]host[:port],host[:port]/service[/db][?sentinel_username=…&sentinel_password=…]
    redis+cluster://[user:password@]host[:port],host[:port]

TLS files come as ``?ssl_ca_certs=…&ssl_certfile=…&ssl_keyfile=…``. No error text shows the password.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from unitagent import folder
from unitagent.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REDIS_PORT, SENTINEL_PORT = 6379, 26379
MAX_PORT = 65535
_TLS_PATHS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_TLS_PATHS, "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
_OPTIONS = ("db", "sentinel_username", "sentinel_password", *_TLS_OPTIONS)
_FALSE = ("0", "f", "false", "n", "no", "off")


class Kind(StrEnum):
    """How the server that holds a Unit's keys is found."""

    DIRECT = "redis"
    UNIX = "unix"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a server; empty for nobody.

    Attributes:
        others: further passwords, to be tried when the first is refused.

    """

    username: str = ""
    password: str = field(default="", repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)


NOBODY = Login()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the store is.

    Attributes:
        hosts: name and port of each server that may be asked; none for a socket file.
        service: name under which the sentinels know the primary.
        tls: options of the TLS connection as redis-py names them; None for no TLS.

    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    db: int = 0
    login: Login = NOBODY
    service: str = ""
    sentinel_login: Login = NOBODY
    tls: Mapping[str, str | bool] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The address as a person reads it in an error."""
        return self.path or ",".join(map(join_host, self.hosts))


Directions = Callable[[], str | Address]
"""Says where the store is now: a URL, or what one means."""


def parse(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ConfigurationError: naming what is wrong in it, without its password.

    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may be those of the URL
        raise ConfigurationError(
            "UNIT_REDIS_URL: no URL; expected redis://[user:password@]host[:port]"
        ) from None
    try:
        return _parse(parts)
    except ValueError as error:
        raise ConfigurationError(f"UNIT_REDIS_URL: {error}") from None


def embedded_address(host: str, port: int, passwords: Sequence[str]) -> Address:
    """Give the address of the embedded store at rank 0; ``host`` is an IP or a DNS name."""
    first, *others = passwords or ("",)
    return Address(kind=Kind.DIRECT, hosts=((host, port),), login=Login("", first, tuple(others)))


def is_loopback(ip: str) -> bool:
    """Whether only this machine, or this container, reaches an address."""
    return ipaddress.ip_address(ip).is_loopback


def join_host(host: tuple[str, int]) -> str:
    """``host:port``, with the brackets that IPv6 needs."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _parse(url: SplitResult) -> Address:
    if url.fragment or "@" in url.path:
        raise ValueError("special characters of a password have to be percent-encoded (# is %23, / is %2F)")
    secure = url.scheme.startswith("rediss")
    kind = _kind(url.scheme.replace("rediss", "redis", 1))
    options = _options(url.query, secure=secure)
    login, _, hosts = url.netloc.rpartition("@")
    words = [unquote(word) for word in url.path.split("/") if word]
    service = words.pop(0) if kind is Kind.SENTINEL and words else ""
    if kind is Kind.SENTINEL and not service:
        raise ValueError("the name of the primary is missing: redis+sentinel://host:port/NAME")
    if kind is Kind.UNIX:
        if hosts or not words:
            raise ValueError("a socket needs an absolute path: unix:///path/of/socket")
        words = []
    return Address(
        kind=kind,
        hosts=() if kind is Kind.UNIX else _hosts(hosts, kind),
        path=unquote(url.path) if kind is Kind.UNIX else "",
        db=_db(words or [options.get("db", "0")], kind),
        login=_login(login),
        service=service,
        sentinel_login=Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        tls=_tls(options) if secure else None,
    )


def _kind(scheme: str) -> Kind:
    if scheme not in list(Kind):
        accepted = "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
        raise ValueError(f"unknown scheme {scheme or '(none)'!r}; accepted: {accepted}")
    return Kind(scheme)


def _options(query: str, *, secure: bool) -> dict[str, str]:
    options = dict(parse_qsl(query))
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"an option is unknown; accepted: {', '.join(_OPTIONS)}")
        if name in _TLS_OPTIONS and not secure:
            raise ValueError(f"option {name} needs a scheme with TLS (rediss://)")
    return options


def _login(text: str) -> Login:
    username, _, password = text.partition(":")
    return Login(unquote(username), unquote(password))


def _hosts(text: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    default = SENTINEL_PORT if kind is Kind.SENTINEL else REDIS_PORT
    hosts = tuple(_host(host, default) for host in text.split(","))
    if kind is Kind.DIRECT and len(hosts) > 1:
        raise ValueError("one host is expected; for several use redis+sentinel:// or redis+cluster://")
    return hosts


def _host(text: str, default: int) -> tuple[str, int]:
    name, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        name, port = text, str(default)
    name = name.removeprefix("[").removesuffix("]") if name.startswith("[") else name
    if not name:
        raise ValueError("the host is missing; expected redis://[user:password@]host[:port][/db]")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise ValueError(f"the port of a host is not a number from 1 to {MAX_PORT}")
    return name, int(port)


def _db(words: list[str], kind: Kind) -> int:
    if len(words) > 1 or not words[0].isascii() or not words[0].isdigit():
        raise ValueError("the database after the host is not a number")
    if kind is Kind.CLUSTER and int(words[0]):
        raise ValueError("a cluster has only database 0")
    return int(words[0])


def _tls(options: Mapping[str, str]) -> dict[str, str | bool]:
    tls: dict[str, str | bool] = {
        name: folder.absolute(value) if name in _TLS_PATHS else value
        for name, value in options.items()
        if name in _TLS_OPTIONS
    }
    if tls.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise ValueError("option ssl_cert_reqs accepts none, optional, required")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = str(tls["ssl_check_hostname"]).lower() not in _FALSE
    return tls
