"""Defer the ``__init__`` of packages that import all of their parts when we need few.

The invariant: nothing but time and memory changes. Access to a name that only ``__init__`` defines runs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_INIT_LOCK = RLock()


def defer_package_init(*packages: str) -> None:
    """Let parts of these packages be imported without what the packages themselves import."""
    for name in packages:
        spec = None if name in sys.modules else find_spec(name)
        if spec is None:
            continue
        sys.modules[name] = package = module_from_spec(spec)
        package.__class__ = _DeferredPackage
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, package)


class _DeferredPackage(ModuleType):
    """A package that has not run."""

    def __getattr__(self, name: str) -> Any:
        """Look for a name that is not here yet: it is a part, or ``__init__`` makes it."""
        if find_spec(f"{self.__name__}.{name}") is not None:
            return import_module(f"{self.__name__}.{name}")
        with _INIT_LOCK:
            if isinstance(self, _DeferredPackage):
                _run_init(self)
        return getattr(self, name)


class _InitializingPackage(ModuleType):
    """A package whose ``__init__`` runs in one thread; other threads wait until it ends."""

    def __getattr__(self, name: str) -> Any:
        """Raise in the thread that runs ``__init__``; elsewhere, look again when it has run."""
        with _INIT_LOCK:
            if type(self) is _InitializingPackage:
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self, name)


def _run_init(package: ModuleType) -> None:
    spec, package.__class__ = package.__spec__, _InitializingPackage
    try:
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(package)
    except BaseException:
        package.__class__ = _DeferredPackage  # the next access gets the cause, too
        raise
    package.__class__ = ModuleType
