"""What must be equal on all ranks, as words that ranks compare at the barrier: settings of ours as they are,
so that both values can be told, and short hashes of all else.

Only variables that the ranks of one gang negotiate by, or that change what is computed, are compared; what
names a card, an address, a device or a file may well differ from machine to machine (``NCCL_IB_HCA`` is the
card's on each). Parts of a name count as a whole, so that ``VLLM_LOGITS_…`` is none about a log.

The invariant: nothing secret is hashed; a short one could be found from its hash.
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


def fingerprint(command: Sequence[str], settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Words ``name=value`` of settings, ``name=hash`` of the user's command and variables that must agree."""
    words = [f"COMMAND={_hash(chr(0).join(command))}"]
    words += [f"{name}={text}" for name, text in settings.items()]
    words += [f"{name}={_hash(text)}" for name, text in sorted(environ.items()) if text and _compared(name)]
    return " ".join(words)


def _compared(name: str) -> bool:
    if name in _COMPARED:
        return True
    if not name.isprintable():  # no line of text could hold it, and no record
        return False
    parts = set(name.split("_"))
    own = parts & _PARTS_THAT_MAY_DIFFER and "MASTER" not in parts  # where they meet is the same for all
    return name.startswith(_PREFIXES) and name not in _MAY_DIFFER and not own


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
