"""The words that start each engine that reads none of our variables, and the warning about an engine that
is started without ranks.

They are separate from the frameworks, so that finding out what a command starts does not load these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

StartWords = tuple[str, ...]
"""The first word may stand behind a path: ``("vllm", "serve")``; ``-m`` stands behind Python."""

ACCELERATE: tuple[StartWords, ...] = (
    ("accelerate", "launch"),
    ("accelerate-launch",),
    ("-m", "accelerate.commands.launch"),
    ("-m", "accelerate.commands.accelerate_cli", "launch"),
)
LMDEPLOY: tuple[StartWords, ...] = (
    ("lmdeploy", "serve", "api_server"),
    ("-m", "lmdeploy", "serve", "api_server"),
)
SGLANG: tuple[StartWords, ...] = (
    ("sglang", "serve"),
    ("-m", "sglang.launch_server"),
    ("-m", "sglang.cli.main", "serve"),
)
TENSORRT_LLM: tuple[StartWords, ...] = (("trtllm-serve",),)
VLLM_MODULE = "vllm.entrypoints.openai.api_server"
VLLM: tuple[StartWords, ...] = (
    ("vllm", "serve"),
    ("-m", "vllm.entrypoints.cli.main", "serve"),
    ("-m", VLLM_MODULE),
)

START_WORDS: dict[str, tuple[StartWords, ...]] = {
    "accelerate": ACCELERATE,
    "lmdeploy": LMDEPLOY,
    "sglang": SGLANG,
    "tensorrt-llm": TENSORRT_LLM,
    "vllm": VLLM,
}
"""Name in ``UNIT_FRAMEWORK`` -> the words that start it."""

# Words which show that the user has handled ranks already.
_MENTIONS_RANKS = r"(?i)rank|node|master|headless|leader|worker|machine|host_?file|dist-init|ray"


def explain_missing_ranks(argv: Sequence[str]) -> tuple[str, ...]:
    """Explain that an engine command without rank options would start a separate engine on each rank."""
    engine = find_start(argv, [start for starts in START_WORDS.values() for start in starts])
    if not engine or re.search(_MENTIONS_RANKS, " ".join(argv)):
        return ()
    problem = f"COMMAND starts {engine} and names no ranks, so each rank starts a separate engine"
    return (f"{problem}: set UNIT_FRAMEWORK=auto to complete it, or UNIT_FRAMEWORK=none if that is intended",)


def find_start(argv: Sequence[str], starts: Sequence[StartWords]) -> str:
    """Return the words that start one of these engines, also within a shell's text; or ""."""
    names = "|".join(re.escape(" ".join(start).removeprefix("-m ")) for start in starts)
    match = re.search(rf"\b({names})\b", " ".join(argv))
    return match[0] if match else ""
