"""The entry point: the agent never imports modules from the working directory or from the workload's
``PYTHONPATH``.

The invariant: before anything else is imported, the working directory is removed from the import path. If
Python's own variables (``PYTHONPATH``, ``PYTHONWARNINGS`` …) are set, this process re-executes itself in
isolated mode, which ignores them. The environment stays unchanged for the workload. The folder that contains
the agent stays on the path: write access to it already means control of the agent.
"""

from __future__ import annotations

import os
import sys

_FILE = os.path.abspath(__file__)  # noqa: PTH100  # pathlib is not here yet
_HOME = os.path.dirname(os.path.dirname(_FILE))  # noqa: PTH120
_OPTION = "unitagent"  # of python -X: folders to search after all others
# Set in many images, and harmless, so not worth a second start.
_HARMLESS = frozenset(
    "PYTHON" + rest
    for rest in (
        "UNBUFFERED",
        "DONTWRITEBYTECODE",
        "IOENCODING",
        "UTF8",
        "HASHSEED",
        "NOUSERSITE",
        "SAFEPATH",
    )
)


def main() -> int:
    """Run the command line."""
    _open_missing_streams()
    if not getattr(sys, "frozen", False):
        if not sys.flags.ignore_environment and any(map(_affects_python, os.environ)):
            os.execv(sys.executable, build_agent_command(*sys.argv[1:]))  # noqa: S606  # no shell is wanted
        _remove_start_folder()
        _import_own_package()
    from unitagent.cli import main as command_line  # noqa: PLC0415  # only now

    code = command_line()
    _flush_streams()
    return code


def _open_missing_streams() -> None:
    """Open /dev/null for each closed standard stream; otherwise the next open file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # it is in use by now, for something else
                os.close(opened)
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: PTH123, SIM115


def _flush_streams() -> None:
    """Drop what cannot be written any more; otherwise Python would replace the exit code by 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # it was closed
            pass


def build_agent_command(*words: str) -> list[str]:
    """Return the command line for another process of this agent: isolated, with the same packages."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *words]
    options = ["-B"] if sys.dont_write_bytecode else []
    if further := _list_extra_folders():
        options += ["-X", f"{_OPTION}={os.pathsep.join(further)}"]
    return [sys.executable, "-I", *options, _FILE, *words]


def _affects_python(name: str) -> bool:
    """Whether this variable is set and affects Python; images have others, such as PYTHON_VERSION."""
    return (
        name.startswith("PYTHON") and name[6:].isalpha() and name not in _HARMLESS and bool(os.environ[name])
    )


def _list_extra_folders() -> list[str]:
    """Folders that an isolated Python would not search, but that may contain the agent's packages."""
    site = sys.modules.get("site")
    own = getattr(site, "USER_SITE", None) if getattr(site, "ENABLE_USER_SITE", False) else None
    return [*([own] if own else []), *_read_handed_on_folders(), *_list_package_folders()]


def _read_handed_on_folders() -> list[str]:
    option = sys._xoptions.get(_OPTION)  # noqa: SLF001  # documented, with this name
    return option.split(os.pathsep) if isinstance(option, str) else []


def _list_package_folders() -> list[str]:
    """Folders of ``PYTHONPATH`` with installed packages, if the agent itself was found through it."""
    extra = () if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [folder for folder in extra if _HOME in extra and os.path.isabs(folder) and _has_packages(folder)]  # noqa: PTH117


def _has_packages(folder: str) -> bool:
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return False


def _remove_start_folder() -> None:
    """Remove the folder that Python was started in, or for, from the path."""
    if not sys.flags.safe_path:
        first = os.path.abspath(sys.path[0])  # noqa: PTH100
        sys.path[:] = [one for one in sys.path if os.path.abspath(one) != first or first == _HOME]  # noqa: PTH100


def _import_own_package() -> None:
    """Import this very package from its folder; import anything else from there only as a last resort."""
    before = list(sys.path)
    sys.path.insert(0, _HOME)
    import unitagent  # noqa: F401, PLC0415

    last = [one for one in (_HOME, *_read_handed_on_folders()) if one not in before]
    sys.path[:] = [*before, *last]


if __name__ == "__main__":
    sys.exit(main())
