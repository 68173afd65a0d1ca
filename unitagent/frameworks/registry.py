"""The frameworks, and how ``UNIT_FRAMEWORK`` chooses one of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from unitagent import frameworks
from unitagent.errors import ConfigurationError
from unitagent.frameworks.interface import Framework


def _load_framework(name: str) -> Framework:
    module = import_module(f"{frameworks.__name__}.{name.replace('-', '_')}")
    framework: Framework = module.FRAMEWORK
    return framework


FRAMEWORKS: tuple[Framework, ...] = tuple(map(_load_framework, frameworks.FRAMEWORKS))
NAMES = ("none", "auto", *frameworks.FRAMEWORKS)


def choose_framework(name: str, argv: Sequence[str]) -> Framework | None:
    """Return the framework called ``name``; for ``auto`` the one that recognizes ``argv``, for ``none`` None.

    Raises:
        ConfigurationError: no framework has this name.

    """
    if name not in NAMES:
        raise ConfigurationError(f"UNIT_FRAMEWORK={name!r}: must be one of {', '.join(NAMES)}")
    if name == "auto":
        return next((each for each in FRAMEWORKS if each.recognizes(tuple(argv))), None)
    return next((each for each in FRAMEWORKS if each.name == name), None)
