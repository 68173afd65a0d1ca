"""Fingerprint of what must be equal on all ranks, compared at the barrier: our own settings in clear text, so
that a message can show both values, and short hashes of everything else.

Only variables that the ranks of a gang negotiate with, or that change the result, are compared. Names of
network interfaces, addresses, devices and files may differ between machines (``NCCL_IB_HCA``). Parts of a
name are compared as whole words: ``VLLM_LOGITS_…`` does not count as a variable about logs.

The invariant: secrets are never hashed, since a short secret could be recovered from its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain

from unitagent.frameworks import FRAMEWORKS

_PREFIXES = ("NCCL_", "GLOO_", *chain.from_iterable(FRAMEWORKS.values()))
_COMPARED = frozenset({"PET_NPROC_PER_NODE"})
_PARTS_THAT_MAY_DIFFER = frozenset(
    {
        *("HOST", "HOSTID", "IP", "ADDRESS", "PORT", "IFNAME", "HCA", "GID", "RANK"),
        *("DEBUG", "LOG", "LOGS", "LOGGING", "PATH", "FILE", "DIR", "TMPDIR", "ROOT"),
        *("KEY", "TOKEN", "SECRET", "PASSWORD"),
    }
)
_MAY_DIFFER = frozenset(
    {
        *("VLLM_ASSETS_CACHE", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_GPU_NIC_PCIE_MAPPING"),
        *("NCCL_RAS_ADDR", "RAY_OVERRIDE_RESOURCES", "RAY_OVERRIDE_LABELS"),
    }
)


def compute_fingerprint(
    command: Sequence[str],
    settings: Mapping[str, str],
    environ: Mapping[str, str],
    keeper: Sequence[str] = (),
) -> str:
    """Return ``name=value`` for settings and ``name=hash`` for the commands and the compared variables."""
    words = [f"COMMAND={_hash_text(chr(0).join(command))}"]
    words += [f"KEEPER={_hash_text(chr(0).join(keeper))}"] if keeper else []
    words += [f"{name}={text}" for name, text in settings.items()]
    words += [
        f"{name}={_hash_text(text)}" for name, text in sorted(environ.items()) if text and _is_compared(name)
    ]
    return " ".join(words)


def _is_compared(name: str) -> bool:
    if name in _COMPARED:
        return True
    if not name.isprintable():  # neither a line of text nor a record could hold it
        return False
    parts = set(name.split("_"))
    own = parts & _PARTS_THAT_MAY_DIFFER and "MASTER" not in parts  # the rendezvous is the same on all ranks
    return name.startswith(_PREFIXES) and name not in _MAY_DIFFER and not own


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
