"""Find which version of a package a command would run, from the files next to its interpreter.

The invariant: nothing is executed. If there are several versions, or none, the version is unknown.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

_PYTHON = re.compile(r"python[0-9.]*")
_MAX_FIRST_LINE = 256  # the kernel reads no more of a script to find its interpreter


def find_installed_version(package: str, argv: Sequence[str], path: str | None) -> str:
    """Return the version of ``package`` that ``argv`` starts by its own program or by a Python; else "".

    Args:
        package: its name, which its program has as well.
        argv: a command line, which may be wrapped.
        path: where programs without a folder are looked up.

    """
    names = (PurePath(word).name for word in argv)
    words = (
        word for word, name in zip(argv, names, strict=True) if name == package or _PYTHON.fullmatch(name)
    )
    program = shutil.which(next(words, ""), path=path)
    if not program:
        return ""
    versions = {
        version for root in _list_roots(Path(program), path) for version in _list_versions(package, root)
    }
    return versions.pop() if len(versions) == 1 else ""


def _list_roots(program: Path, path: str | None) -> Iterator[Path]:
    """Yield where packages of this program may be, as in ``ROOT/bin/python``."""
    for each in (program, _find_interpreter(program, path)):
        if each is not None:
            root = each.parent.parent
            yield root
            if root == Path("/usr"):  # Debian's Python installs into /usr/local
                yield root / "local"


def _find_interpreter(program: Path, path: str | None) -> Path | None:
    """Read a script's first line; None of a program that is no script."""
    try:
        with program.open("rb") as file:
            line = file.read(_MAX_FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return None
    words = line.removeprefix(b"#!").decode(errors="replace").split() if line.startswith(b"#!") else []
    if len(words) > 1 and PurePath(words[0]).name == "env":
        interpreter = shutil.which(words[1], path=path)
        return Path(interpreter) if interpreter else None
    return Path(words[0]) if words else None


def _list_versions(package: str, root: Path) -> Iterator[str]:
    for folder in root.glob(f"lib*/python3*/*-packages/{package}-*.dist-info"):
        yield folder.name.removeprefix(f"{package}-").removesuffix(".dist-info")
