"""``unitagent probe``: ask an agent's probe address, for images without curl. Only the standard library, so
that a health check that runs every few seconds costs little.
"""

from __future__ import annotations

import http.client
import sys

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
    connection = http.client.HTTPConnection(reachable(host), port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(_LINE).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {host}:{port}: {error or type(error).__name__}"
    finally:
        connection.close()
    return answer.status == http.client.OK, (text.splitlines() or [str(answer.status)])[0]


def reachable(host: str) -> str:
    """Where to connect to reach an agent that listens at ``host``; at ``::`` it listens at IPv4 as well."""
    bare = host.strip("[]")
    return "127.0.0.1" if bare in {"", "::", "0.0.0.0"} else bare
