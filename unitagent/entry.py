"""Where the command line begins: the agent imports nothing that lies about where it happens to be started.

The invariant: before anything but this is imported, the folder that the command is given in and those of
``PYTHONPATH`` are off the path; the environment is left as it is, for the workload. The folder that the agent
itself was found in stays: who can write there needs no other way in.
"""

from __future__ import annotations

import os
import sys

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # pathlib is not here yet


def main() -> int:
    """Be the command line."""
    if not getattr(sys, "frozen", False):
        sys.path[:] = _trusted(sys.path)
    from unitagent.cli import main as command_line  # noqa: PLC0415  # only now

    return command_line()


def _trusted(path: list[str]) -> list[str]:
    given = () if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if _HOME in given:  # the agent is installed that way, and what it needs may be, too
        given = [folder for folder in given if not os.path.isabs(folder)]  # noqa: PTH117
    foreign = {os.path.abspath(folder) for folder in given} if any(given) else set()  # noqa: PTH100
    if not sys.flags.safe_path:
        foreign.add(os.path.abspath(path[0]))  # noqa: PTH100
    return [folder for folder in path if os.path.abspath(folder) not in foreign - {_HOME}]  # noqa: PTH100
