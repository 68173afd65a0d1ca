"""The network namespace that this process listens in, as a proof of place.

Addresses repeat: two machines may both have a bridge with 172.17.0.2. Within one namespace of one running
kernel they do not, and there one socket at most listens at an address. So an agent that listens exactly where
another one did knows that the other is gone.
"""

from __future__ import annotations

import hashlib
import socket
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/net")


def find_own_netns(host: str, port: int, ip: str) -> str:
    """Name the namespace in which whoever listens at ``host``:``port`` is the only one at ``ip``:``port``;
    with port 0, the one that this process is in.

    Returns an empty string where that is not so (``host`` is another address, the port is taken), or cannot
    be known (a sandbox that hides its kernel).
    """
    if port and not (_covers(host, ip) and _is_free(host, port)):
        return ""
    try:
        boot, namespace = _BOOT.read_text(encoding="ascii").strip(), _NAMESPACE.stat()
    except (OSError, UnicodeDecodeError):
        return ""
    words = f"{boot} {namespace.st_dev} {namespace.st_ino}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _covers(host: str, ip: str) -> bool:
    """Whether a socket that listens at ``host`` takes what is sent to ``ip``."""
    try:
        there, mine = ip_address(host.strip("[]")), ip_address(ip)
    except ValueError:  # a name may lead anywhere
        return False
    both = there.version == 6  # noqa: PLR2004  # the server takes IPv4 at [::] as well
    return there == mine or (there.is_unspecified and (both or there.version == mine.version))


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host.strip("[]"), port))
            trial.listen(1)
    except OSError:
        return False
    return True
