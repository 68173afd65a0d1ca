"""What a bundle starts: the agent's command line, and what the package asks of ``sys.executable``.

The invariant: nothing of the packer's environment reaches a child. It points ``LD_LIBRARY_PATH`` at the
bundle's libraries, which fit no program of the image around it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_PACKER = "_PYI_"


def clean() -> None:
    """Give the environment back as it was; this process has read it already."""
    for name in [name for name in os.environ if name.startswith(_PACKER)]:
        del os.environ[name]
    os.environ.pop("LD_LIBRARY_PATH", None)
    if (before := os.environ.pop("LD_LIBRARY_PATH_ORIG", None)) is not None:
        os.environ["LD_LIBRARY_PATH"] = before


def copy(bundle: Path, folder: Path) -> int:
    """Copy what is in the bundle; ``copytree`` would also change the folder, which may be somebody else's."""
    for path in sorted(bundle.rglob("*")):
        place = folder / path.relative_to(bundle)
        try:
            place.mkdir(parents=True, exist_ok=True) if path.is_dir() else shutil.copy(path, place)
        except OSError as error:
            print(f"unitagent: error: {place}: {error.strerror}", file=sys.stderr)
            return 1
    return 0


def main() -> int:
    """Stand in for Python where that is asked for, copy the bundle where no ``cp`` is, else be the agent."""
    match sys.argv[1:]:
        case ["--copy-to", folder]:
            return copy(Path(sys.executable).parent, Path(folder))
        case ["-I", "-S", "-c", code, *words]:
            sys.argv = ["-c", *words]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  # what -c means
            return 0
    from unitagent.cli import main as command_line  # noqa: PLC0415  # a stand-in needs none of it

    return command_line()


clean()
sys.exit(main())
