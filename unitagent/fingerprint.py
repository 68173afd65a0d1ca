"""What must be equal on all ranks, as short hashes that ranks compare at the barrier.

Only variables that the ranks of one gang negotiate by, or that change what is computed, are compared; what
names a card, an address or a device may well differ from machine to machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

_PREFIXES = ("NCCL_", "GLOO_", "VLLM_", "SGLANG_", "TORCH_NCCL_")
_MAY_DIFFER = (
    "HOST",
    "IFNAME",
    "HCA",
    "_IP",
    "DEBUG",
    "LOG",
    "PORT",
    "PATH",
    "CACHE",
    "FILE",
    "KEY",
    "TOKEN",
)


def fingerprint(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Words ``name=hash``: of the command as the user wrote it, and of each variable that must agree."""
    words = [f"COMMAND={_hash(chr(0).join(command))}"]
    words += [f"{name}={_hash(text)}" for name, text in sorted(environ.items()) if text and _compared(name)]
    return " ".join(words)


def _compared(name: str) -> bool:
    return name.startswith(_PREFIXES) and not any(part in name for part in _MAY_DIFFER)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
