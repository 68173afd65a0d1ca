"""Frameworks: the flags and variables that each engine needs per rank.

The user writes one command for all ranks; a framework completes it for one of them. What the user wrote wins.

The table stands here, so that naming a framework imports none of them. A new framework is a module of this
package, which implements :mod:`interface` and exports ``FRAMEWORK``, and a row of the table; all else follows
from these: ``UNIT_FRAMEWORK``, its help, completion and errors, and the variables that the barrier compares.
"""

from __future__ import annotations

FRAMEWORKS: dict[str, tuple[str, ...]] = {
    "ray": ("RAY_",),
    "torchrun": ("TORCH_NCCL_",),
    "accelerate": (),
    "deepspeed": (),
    "tensorrt-llm": ("TLLM_", "TRTLLM_"),
    "lmdeploy": ("LMDEPLOY_",),
    "sglang": ("SGLANG_",),
    "vllm": ("VLLM_",),
}
"""Name in ``UNIT_FRAMEWORK`` -> prefixes of its variables that must be equal on all ranks. The module has the
same name, with underscores. The first framework that recognizes a command gets it, so launchers come before
the engines that they may launch.
"""
