"""What went wrong with the store, in one sentence that says what to do and holds no secret.

Server errors are told by their code (the first word of an error reply).
"""

from __future__ import annotations

import errno
import os

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from unitagent.errors import StoreError
from unitagent.store.names import awaited

REMEDIES = {
    "WRONGPASS": "refused the user or password of UNIT_REDIS_URL (embedded store: of UNIT_SECRET)",
    "NOAUTH": "wants a password in UNIT_REDIS_URL (embedded store: the same UNIT_SECRET on all ranks)",
    "NOPERM": "does not permit this user all that is needed; see the ACL line in the README",
    "OOM": "is out of memory (maxmemory); give it more or remove other data",
    "BUSY": "is busy with somebody's slow script",
    "LOADING": "is still loading its data",
    "READONLY": "is a read-only replica now; looking for the primary again",
    "MASTERDOWN": "is a replica that has lost its primary",
    "NOREPLICAS": "refuses writes because too few of its replicas are connected (min-replicas-to-write)",
    "MISCONF": "refuses writes because it cannot save to its disk",
    "MOVED": "has given this Unit's keys to another node; looking for it again",
    "ASK": "is giving this Unit's keys to another node",
    "TRYAGAIN": "is giving this Unit's keys to another node",
    "CLUSTERDOWN": "belongs to a cluster that is down",
    "DENIED": "runs in protected mode: it has no password and accepts loopback only",
}
_PHRASES = {
    "Connection closed by server": "closed the connection",
    "max number of clients reached": "has no connection left (maxclients)",
    "unauthenticated": REMEDIES["NOAUTH"],  # of a command that is long, before it is even read
    "without any password configured": "has no password, but UNIT_REDIS_URL or UNIT_SECRET gives one",
    "DB index is out of range": "does not have the database that UNIT_REDIS_URL names",
    "user executing the script can't run": REMEDIES["NOPERM"],
    "unknown command": "lacks a command that is needed; Redis 6 or Valkey 7.2 and later have all of them",
}
_LONGEST = 200  # characters of somebody else's words


def explain(error: BaseException, place: str, remedy: str = "") -> StoreError:
    """Tell a failed operation on the store at ``place``, with the remedy where that was not reached."""
    if isinstance(error, StoreError):
        return error
    said = f"the store at {place} {_clause(error, place)}"
    return StoreError(f"{said}; {remedy}" if remedy and _is_of_the_way(error) else said)


def _clause(error: BaseException, place: str) -> str:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return _of_silence(place)
    if isinstance(error, RedisError):
        return _of_server(error)
    if isinstance(error, OSError):
        return f"cannot be reached: {_reason(error)}"
    return f"gave an answer that no store gives ({type(error).__name__})"


def _is_of_the_way(error: BaseException) -> bool:
    """Whether no server answered, so that none may be there."""
    return isinstance(error, OSError | RedisTimeoutError) or isinstance(error.__context__, OSError)


def _of_silence(place: str) -> str:
    if name := awaited(place):
        return f"cannot be reached yet: the name server has not answered for {name} so far"
    return "does not answer in time"


def _of_server(error: RedisError) -> str:
    if isinstance(error.__cause__, RedisError):
        error = error.__cause__
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    for phrase, remedy in _PHRASES.items():
        if phrase in text:
            return remedy
    if code in REMEDIES:
        return REMEDIES[code]
    if isinstance(error.__context__, OSError):
        return f"cannot be reached: {_reason(error.__context__)}"
    return f"answered: {text[:_LONGEST]}"


def _reason(error: BaseException) -> str:
    """Give the words for an error of the operating system or of TLS."""
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number)
    words = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error
    return str(words or type(error).__name__)[:_LONGEST]
