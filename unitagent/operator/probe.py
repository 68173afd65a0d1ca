"""``unitagent probe``: ask an agent's probe address, for images without curl. Only the standard library, so
that a health check that runs every few seconds costs little.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
from collections.abc import Iterator

from unitagent.legible import line, tell

PATHS = {"live": "/livez", "ready": "/readyz", "traffic": "/traffic", "startup": "/startupz"}
_LINE = 500  # characters of an answer that are shown


def probe(kind: str, host: str, port: int, timeout: float) -> int:
    """Print one line why; 0 when the answer is yes."""
    yes, why = ask(PATHS[kind], host, port, timeout)
    tell(line(why), sys.stdout if yes else sys.stderr)
    return 0 if yes else 1


def ask(path: str, host: str, port: int, timeout: float) -> tuple[bool, str]:
    """Whether the answer was 200, and its first line."""
    try:
        with connected(host, port, timeout) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read(_LINE).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {host}:{port}: {error or type(error).__name__}"
    return answer.status == http.client.OK, (text.splitlines() or [str(answer.status)])[0]


@contextlib.contextmanager
def connected(host: str, port: int, timeout: float) -> Iterator[http.client.HTTPConnection]:
    """A connection for one question, which is cut after ``timeout`` seconds. The timeout of a socket begins
    anew with each byte, so whoever trickles could keep a command waiting for ever.
    """
    connection = http.client.HTTPConnection(reachable(host), port, timeout=timeout)
    connection.connect()
    end = threading.Timer(timeout, _cut, [connection.sock])  # which the connection soon forgets
    end.daemon = True
    end.start()
    try:
        yield connection
    finally:
        end.cancel()
        connection.close()


def _cut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def reachable(host: str) -> str:
    """Where to connect to reach an agent that listens at ``host``; at ``::`` it listens at IPv4 as well."""
    bare = host.strip("[]")
    return "127.0.0.1" if bare in {"", "::", "0.0.0.0"} else bare
