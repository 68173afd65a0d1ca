"""The frameworks there are. A new one is a file of its own and a line here.

The invariant: the first that recognizes a command has it, so launchers stand before the engines they may
launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unitagent.errors import ConfigurationError
from unitagent.frameworks.accelerate import Accelerate
from unitagent.frameworks.deepspeed import DeepSpeed
from unitagent.frameworks.lmdeploy import LmDeploy
from unitagent.frameworks.ray import Ray
from unitagent.frameworks.sglang import SgLang
from unitagent.frameworks.tensorrt_llm import TensorRtLlm
from unitagent.frameworks.torchrun import Torchrun
from unitagent.frameworks.vllm import Vllm

if TYPE_CHECKING:
    from unitagent.frameworks.interface import Framework

FRAMEWORKS: tuple[Framework, ...] = (
    Ray(),
    Torchrun(),
    Accelerate(),
    DeepSpeed(),
    TensorRtLlm(),
    LmDeploy(),
    SgLang(),
    Vllm(),
)
NAMES = ("none", "auto", *(framework.name for framework in FRAMEWORKS))


def choose_framework(name: str, argv: Sequence[str]) -> Framework | None:
    """Return the framework called ``name``; for ``auto`` the one that recognizes ``argv``, for ``none`` None.

    Raises:
        ConfigurationError: there is none of this name.

    """
    if name not in NAMES:
        raise ConfigurationError(
            f"UNIT_FRAMEWORK={name}: not a framework; accepted is one of {', '.join(NAMES)}"
        )
    if name == "auto":
        return next((each for each in FRAMEWORKS if each.recognizes(tuple(argv))), None)
    return next((each for each in FRAMEWORKS if each.name == name), None)
