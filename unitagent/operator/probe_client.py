"""``unitagent probe``: ask an agent's probe address, for images without curl.

A health check runs every few seconds in every container, so this client writes its one HTTP request to a
socket itself: importing the standard library's client takes as long as starting Python.
"""

from __future__ import annotations

import socket
import sys
import time

from unitagent.core.probe_paths import PROBES_BY_WORD
from unitagent.system.host_port import join_host_port
from unitagent.system.safe_output import escape_line, print_text

_MAX_LINE = 500  # characters of an answer that are shown
_MAX_ANSWER = 65536  # bytes of an answer that are read
_OK = b"200"


def run_probe(word: str, host: str, port: int, timeout: float) -> int:
    """Print the reason in one line; return 0 if the answer is yes, else 1."""
    yes, why = send_probe(PROBES_BY_WORD[word].path, host, port, timeout)
    print_text(escape_line(why), sys.stdout if yes else sys.stderr)
    return 0 if yes else 1


def send_probe(path: str, host: str, port: int, timeout: float) -> tuple[bool, str]:
    """Return whether the answer is 200, and its first line."""
    there = join_host_port(host, port)
    try:
        answer = _fetch_answer(path, host, port, timeout)
    except OSError as error:
        return False, f"no answer from {there}: {error.strerror or error or type(error).__name__}"
    head, _, body = answer.partition(b"\r\n\r\n")
    protocol, status, *_ = [*head.split(b"\r\n", 1)[0].split(), b"", b""]
    if not protocol.startswith(b"HTTP/"):
        return False, f"no answer from {there}: the process that listens there does not speak HTTP"
    lines = body.decode(errors="replace")[:_MAX_LINE].splitlines()
    return status == _OK, lines[0] if lines else status.decode(errors="replace")


def _fetch_answer(path: str, host: str, port: int, timeout: float) -> bytes:
    """Read the whole answer, within ``timeout`` seconds in all, however slowly it arrives.

    Raises:
        OSError: nothing listens there, or the time ran out.

    """
    end = time.monotonic() + timeout
    where = resolve_wildcard(host)
    answer = b""
    with socket.create_connection((where, port), timeout) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {join_host_port(where, port)}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        while len(answer) < _MAX_ANSWER:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            connection.settimeout(left)
            data = connection.recv(_MAX_ANSWER)
            if not data:
                break
            answer += data
    return answer


def resolve_wildcard(host: str) -> str:
    """Return the address at which to reach an agent that listens on ``host``; ``::`` includes IPv4."""
    bare = host.strip("[]")
    return "127.0.0.1" if bare in {"", "::", "0.0.0.0"} else bare
