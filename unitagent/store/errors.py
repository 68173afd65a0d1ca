"""Describe a failure of the store in one sentence that says what to do and contains no secret.

Errors of the server are recognized by their code, the first word of an error reply. Warnings about
what the store contains are given once (:class:`LimitedWarnings`).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from unitagent.errors import StoreError
from unitagent.store.address import StoreKind
from unitagent.store.connection import find_pending_lookup

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitagent.store.address import StoreLocation


class Explanation(NamedTuple):
    """What the store does, and what a person can do about it; empty where the first says it all."""

    what: str
    remedy: str = ""


_ACL = Explanation(
    "does not permit this user all that is needed",
    "give the user of UNIT_REDIS_URL the rights of the ACL line in SECURITY.md",
)
_PASSWORD = Explanation(
    "requires a password",
    "give one in UNIT_REDIS_URL (redis://:PASSWORD@HOST)",
)
_WRONG = Explanation("refused the user or password of UNIT_REDIS_URL", "correct them")
_UNWANTED = Explanation("has no password, but UNIT_REDIS_URL gives one", "give it this one, or omit it")
_EMBEDDED_EXPLANATIONS = {  # of the embedded store, whose password is made of the Unit's secret
    _PASSWORD: Explanation("requires a password", "give this instance the UNIT_SECRET of rank 0"),
    _WRONG: Explanation(
        "refused the password that UNIT_SECRET gives", "rank 0 has another secret: give all ranks the same"
    ),
    _UNWANTED: Explanation(
        "has no password, but UNIT_SECRET gives one", "rank 0 has no secret: give all ranks the same, or none"
    ),
}
_EXPLANATION_OF_CODE = {
    "WRONGPASS": _WRONG,
    "NOAUTH": _PASSWORD,
    "NOPERM": _ACL,
    "OOM": Explanation("is out of memory (maxmemory)", "give it more or remove other data"),
    "BUSY": Explanation("is blocked by a long-running script"),
    "LOADING": Explanation("is still loading its data"),
    "READONLY": Explanation("is a read-only replica now; looking for the primary again"),
    "MASTERDOWN": Explanation("is a replica that has lost its primary"),
    "NOREPLICAS": Explanation(
        "refuses writes because too few of its replicas are connected (min-replicas-to-write)",
        "bring its replicas back, or lower that number",
    ),
    "MISCONF": Explanation(
        "refuses writes because it cannot save to its disk",
        "free disk space, and let the server write to its directory (CONFIG GET dir; see its log)",
    ),
    "MOVED": Explanation("has given this Unit's keys to another node; looking for it again"),
    "ASK": Explanation("is giving this Unit's keys to another node"),
    "TRYAGAIN": Explanation("is giving this Unit's keys to another node"),
    "CLUSTERDOWN": Explanation(
        "belongs to a cluster that is down", "run redis-cli --cluster check to see what is missing"
    ),
    "DENIED": Explanation(
        "runs in protected mode: it has no password and accepts loopback only", "give it a password"
    ),
}
_EXPLANATION_OF_DIRECT_CODE = {  # nobody names another server in the place of the one in the URL
    "READONLY": Explanation(
        "is a read-only replica",
        "name the primary in UNIT_REDIS_URL, or the sentinels that know it (redis+sentinel://)",
    ),
    "MOVED": Explanation("is one node of a cluster", "write redis+cluster:// in UNIT_REDIS_URL"),
}
_CLOSED = Explanation("closed the connection")
_EXPLANATION_OF_PHRASE = {
    "Connection closed by server": _CLOSED,
    "max number of clients reached": Explanation("has no connection left (maxclients)"),
    "unauthenticated": _PASSWORD,  # of a command that is long, before it is even read
    "without any password configured": _UNWANTED,
    "DB index is out of range": Explanation(
        "does not have the database that UNIT_REDIS_URL names",
        "name one below its setting databases, which is 16 by default",
    ),
    "user executing the script can't run": _ACL,
    "cluster support disabled": Explanation("is not a node of a cluster", "write redis:// in UNIT_REDIS_URL"),
    "unknown command": Explanation(
        "lacks a command that is needed",
        "Redis 6 or Valkey 7.2 and later have all of them; of a sentinel write redis+sentinel://HOST:PORT/NAME",
    ),
}
_NO_SENTINEL = Explanation("is not a sentinel", "name sentinels, or write redis:// in UNIT_REDIS_URL")
_MAX_QUOTED = 200  # characters of a foreign text
_SILENT = "a server without TLS leaves rediss:// unanswered: then write redis:// in UNIT_REDIS_URL"
_WANTS_TLS = "if it takes TLS only, write rediss:// in UNIT_REDIS_URL"
_DROPPED = "a firewall may drop what is sent there, or the server hangs"
_UNKNOWN = "correct the host name in UNIT_REDIS_URL, or fix DNS so that it resolves"
_CERTIFICATE = (
    "its certificate must be for that name and from a CA that is known here (ssl_ca_certs=FILE); it may "
    "require a client certificate (ssl_certfile, ssl_keyfile)"
)
_NOBODY = "start the server, correct UNIT_REDIS_URL, or open its port in the firewall"
_NO_GUESS = {_WANTS_TLS: "", _SILENT: _DROPPED}  # where it is known whether the server takes TLS
_EMBEDDED_REMEDIES = {  # no URL leads there
    _NOBODY: "rank 0's agent runs it: check that rank 0 is up, and that the firewall lets this port pass",
    _UNKNOWN: "correct MASTER_ADDRESS, or fix DNS so that it resolves",
}


def explain_error(
    error: BaseException,
    place: str,
    remedy: str = "",
    to: StoreLocation | None = None,
    at: str = "",
    *,
    spoken: bool = False,
) -> StoreError:
    """Explain a failed operation on the store at ``place``.

    Args:
        error: what was raised.
        place: the server, for people.
        remedy: what helps where no server was reached, if it is not the URL that says where it is.
        to: what was understood of that URL; None at rank 0, of its own server.
        at: the address that was tried.
        spoken: it has answered before in the way that it was asked now.

    """
    if isinstance(error, StoreError):
        return error
    explanation = _describe_error(error, place, to)
    if spoken or _is_embedded(to):
        explanation = explanation._replace(remedy=_NO_GUESS.get(explanation.remedy, explanation.remedy))
    explanation = _name_variable(explanation, to)
    if _is_network_error(error):
        itself = _explain_loopback(to, at) if os.strerror(errno.ECONNREFUSED) in explanation.what else ""
        explanation = Explanation(
            explanation.what, "; ".join(filter(None, (itself, remedy or explanation.remedy)))
        )
    where = f"embedded store at {place} (UNIT_STORE_PORT)" if _is_embedded(to) else f"store at {place}"
    return StoreError(f"the {where} {explanation.what}", explanation.remedy)


def _name_variable(explanation: Explanation, to: StoreLocation | None) -> Explanation:
    """Name the variable that the address or the password came from; the embedded store's without one."""
    variable = to.variable if to is not None else "UNIT_SECRET"
    if _is_embedded(to):
        explanation = _EMBEDDED_EXPLANATIONS.get(explanation, explanation)
        explanation = Explanation(
            explanation.what, _EMBEDDED_REMEDIES.get(explanation.remedy, explanation.remedy)
        )
        return Explanation(*(text.replace("UNIT_SECRET", variable) for text in explanation))
    return Explanation(*(text.replace("UNIT_REDIS_URL", variable) for text in explanation))


def _describe_error(error: BaseException, place: str, to: StoreLocation | None) -> Explanation:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return _explain_timeout(place, to)
    if isinstance(error, RedisError):
        return _explain_server_error(error, to)
    if isinstance(error, OSError):
        return _explain_network_error(error, to)
    return Explanation(f"sent an answer that is not a store's ({type(error).__name__})")


def _is_network_error(error: BaseException) -> bool:
    """Whether no server answered, so that none may be there."""
    return isinstance(error, OSError | RedisTimeoutError) or isinstance(error.__context__, OSError)


def _explain_loopback(to: StoreLocation | None, at: str) -> str:
    """Say that a name, or an address, leads nowhere else (Debian gives a machine's own name 127.0.1.1), or is
    of a family that the server may not have.
    """
    if not at or not ipaddress.ip_address(at).is_loopback:
        return _explain_other_family(to, at)
    name = to.hosts[0][0] if to is not None and to.hosts else at
    means = f"{name} means {at}, which" if name != at else at
    return f"{means} is this machine or container itself"


def _explain_other_family(to: StoreLocation | None, at: str) -> str:
    own = to.asked_from if to is not None else ""
    if not at or not own or (":" in at) == (":" in own):
        return ""
    families = "IPv6", "IPv4"
    there, here = families if ":" in at else families[::-1]
    return (
        f"{at} is {there} and this instance's address {own} {here}: rank 0's store is at its RANK_IP alone, "
        "so give all ranks, and MASTER_ADDRESS, addresses of one family"
    )


def _explain_timeout(place: str, to: StoreLocation | None) -> Explanation:
    if name := find_pending_lookup(place):
        reason = f"cannot be reached yet: the name server has not answered for {name} so far"
        return Explanation(reason, "check the name servers in /etc/resolv.conf")
    return Explanation("does not answer in time", _DROPPED if to is None or to.tls is None else _SILENT)


def _explain_server_error(error: RedisError, to: StoreLocation | None) -> Explanation:
    if isinstance(error.__cause__, RedisError):
        error = error.__cause__
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if "unknown command" in text and "SENTINEL" in text.upper().partition("ARGS")[0]:
        return _NO_SENTINEL
    for phrase, explanation in _EXPLANATION_OF_PHRASE.items():
        if phrase in text:
            return (
                explanation._replace(remedy=_WANTS_TLS)
                if explanation is _CLOSED and _is_plain(to)
                else explanation
            )
    if (
        code in _EXPLANATION_OF_DIRECT_CODE
        and to is not None
        and to.kind in (StoreKind.DIRECT, StoreKind.UNIX)
    ):
        return _EXPLANATION_OF_DIRECT_CODE[code]
    if code in _EXPLANATION_OF_CODE:
        return _EXPLANATION_OF_CODE[code]
    if isinstance(error.__context__, OSError):
        return _explain_network_error(error.__context__, to)
    return Explanation(f"answered: {text[:_MAX_QUOTED]}")


def _explain_network_error(error: OSError, to: StoreLocation | None) -> Explanation:
    what = f"cannot be reached: {_describe_os_error(error)}"
    if isinstance(error, socket.gaierror):
        return Explanation(what, _UNKNOWN)
    if isinstance(error, ConnectionResetError | BrokenPipeError) and _is_plain(to):
        return Explanation(what, _WANTS_TLS)
    return Explanation(what, _CERTIFICATE if isinstance(error, ssl.SSLError) else _NOBODY)


def _is_embedded(to: StoreLocation | None) -> bool:
    return to is None or to.embedded


def _is_plain(to: StoreLocation | None) -> bool:
    return to is not None and to.tls is None and to.kind is not StoreKind.UNIX


def _describe_os_error(error: OSError) -> str:
    """Return the words for an error of the operating system or of TLS."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    words = getattr(error, "verify_message", None) or error.strerror or error
    return str(words or type(error).__name__)[:_MAX_QUOTED]


MOST_WARNINGS = 100  # so that garbage in the store cannot flood the log
HOUR = 3600.0  # seconds


class LimitedWarnings:
    """Passes on each warning once; after ``MOST_WARNINGS`` of them only their number, once an hour."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._warn = say
        self._clock = clock
        self._already_warned: set[str] = set()
        self._more = 0
        self._counted = 0.0  # since when

    def warn_once(self, text: str, about: str = "") -> None:
        """Warn, unless this, or another warning about the same thing, was given before."""
        about = about or text
        if about in self._already_warned:
            return
        if len(self._already_warned) < MOST_WARNINGS:
            self._already_warned.add(about)
            self._counted = self._clock()
            self._warn(text)
        else:
            self._count_suppressed(text)

    def _count_suppressed(self, text: str) -> None:
        self._more += 1
        passed = self._clock() - self._counted
        if passed >= HOUR:
            within = f"{passed / 60:.0f} minutes"
            self._warn(f"{self._more} more warnings about the store in {within}, the last one: {text}")
            self._more, self._counted = 0, self._clock()
