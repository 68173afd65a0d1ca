"""Folders in which compilers and kernel libraries keep what they built, so that it outlives a container.

Names as vLLM 0.33, SGLang 0.5.23, PyTorch 2.13, Triton, DeepGEMM, FlashInfer, CUDA and TileLang read them.
None of them is part of the key under which vLLM files a compiled graph.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.system.mounts import MOUNTS, find_file_system

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "SGLANG_CACHE_DIR": "sglang",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "DG_JIT_CACHE_DIR": "deep_gemm",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "CUDA_CACHE_PATH": "cuda",
    "TILELANG_CACHE_DIR": "tilelang",
}

# What a container engine gives a container for its root; and memory.
_LOST = ("overlay", "aufs", "fuse.fuse-overlayfs", "tmpfs", "ramfs", "rootfs")

# Their locks and renames are not atomic for a cache that several machines fill at once.
_SHARED = ("nfs", "cifs", "smb", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "9p", "fuse", "virtiofs")


# Where an engine keeps what it compiled if nobody says otherwise.
USUAL = {"vllm": ("VLLM_CACHE_ROOT", ".cache/vllm"), "sglang": ("SGLANG_CACHE_DIR", ".cache/sglang")}


def place_caches(root: str, rank: int, mounts: Path = MOUNTS) -> dict[str, str]:
    """Return the variables that place every cache below ``root``; nothing is made.

    On a file system that several machines may share, each rank has a folder of its own.
    """
    folder = Path(root).absolute()
    if find_file_system(folder, mounts).startswith(_SHARED):
        folder /= f"rank-{rank}"
    return {name: str(folder / below) for name, below in CACHES.items()}


def make_folders(folders: Iterable[str]) -> None:
    """Make the folders of the caches. Blocks.

    Raises:
        OSError: one of them cannot be made, or nothing can be written there.

    """
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)


def find_cache(engine: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return where this engine (a key of ``USUAL``) keeps what it compiled, and what says so."""
    name, below = USUAL[engine]
    if environment.get(name):
        return environment[name], name
    return str(Path(environment.get("HOME") or "/root") / below), "the engine's default"


def is_lost_with_container(path: str, mounts: Path = MOUNTS) -> bool:
    """Whether what is written there ends with the container, since it is no mount of its own."""
    return find_file_system(Path(path), mounts) in _LOST
