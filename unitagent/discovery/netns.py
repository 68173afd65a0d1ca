"""The network namespace that this process listens in, as a proof of place.

Addresses repeat: two machines may both have a bridge with 172.17.0.2. Within one namespace of one running
kernel they do not, and there one socket at most listens at an address. So an agent that listens exactly where
another one did knows that the other is gone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from unitagent.system.addresses import bind_tcp, covers_ip

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/net")


def find_own_netns(host: str, port: int, ip: str) -> str:
    """Name the namespace in which whoever listens at ``host``:``port`` is the only one at ``ip``:``port``;
    with port 0, the one that this process is in.

    Returns an empty string where that is not so (``host`` is another address, the port is taken), or cannot
    be known (a sandbox that hides its kernel).
    """
    if port and not (covers_ip(host, ip) and _is_free(host, port)):
        return ""
    try:
        boot, namespace = _BOOT.read_text(encoding="ascii").strip(), _NAMESPACE.stat()
    except (OSError, UnicodeDecodeError):
        return ""
    words = f"{boot} {namespace.st_dev} {namespace.st_ino}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _is_free(host: str, port: int) -> bool:
    try:
        with bind_tcp(host.strip("[]"), port) as trial:
            trial.listen(1)
    except OSError:
        return False
    return True
