"""Kubernetes' termination message: the last reason, where ``kubectl describe pod`` shows it.

The invariant: a file that cannot be written costs nothing but the message. The default file is never made,
because only a kubelet knows what it is for.
"""

from __future__ import annotations

import os

DEFAULT = "/dev/termination-log"
_LONGEST = 4096  # bytes; a kubelet reads no more


def is_wanted(path: str | None) -> bool:
    """Whether there is a file to write to, or one to be made."""
    return path is not None or os.path.exists(DEFAULT)  # noqa: PTH110  # pathlib is not here yet


def write_reason(path: str | None, reason: str) -> None:
    """Replace what the file says with this reason; without a path, that of a kubelet if there is one."""
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if path else 0)
    try:
        file = os.open(path or DEFAULT, flags, 0o644)
    except OSError:
        return
    try:
        text = reason.encode(errors="replace")[:_LONGEST]
        os.write(file, text.decode(errors="ignore").encode())  # no part of a character at the cut
    except OSError:
        return
    finally:
        os.close(file)
