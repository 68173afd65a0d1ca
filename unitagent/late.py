"""Packages whose ``__init__`` imports all of their parts, where we need few: it runs late, or never.

The invariant: nobody can tell, but by the time and the memory that it does not take. Whoever looks for a name
that only ``__init__`` makes has it run first.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_RUNNING = RLock()


def put_off(*packages: str) -> None:
    """Let parts of these packages be imported without what the packages themselves import."""
    for name in packages:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None:
            continue
        sys.modules[name] = package = module_from_spec(spec)
        package.__class__ = _PutOff
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, package)


class _PutOff(ModuleType):
    """A package that has not run."""

    def __getattr__(self, name: str) -> Any:
        """Look for a name that is not here yet: it is a part, or ``__init__`` makes it."""
        if find_spec(f"{self.__name__}.{name}") is not None:
            return import_module(f"{self.__name__}.{name}")
        with _RUNNING:
            if isinstance(self, _PutOff):
                _run(self)
        return getattr(self, name)


class _Running(ModuleType):
    """A package that runs just now, in one thread; another that looks for a name waits for the end."""

    def __getattr__(self, name: str) -> Any:
        """Look for a name that is not here yet, and in the thread that runs it never will be for now."""
        with _RUNNING:
            if type(self) is _Running:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)


def _run(package: ModuleType) -> None:
    spec, package.__class__ = package.__spec__, _Running
    try:
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(package)
    except BaseException:
        package.__class__ = _PutOff  # whoever looks next gets the cause, too
        raise
    package.__class__ = ModuleType
