"""What a warm start needs of the engine's Python and of the kernel, found without running the engine's code.

The interpreter runs isolated and without ``site``, so neither ``sitecustomize`` nor a line of a ``.pth`` file
is executed, and no module is imported to find another.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unitagent.workload.python_command import PythonCommand
from unitagent.workload.reaper import become_subreaper

_SECONDS = 10.0  # for the interpreter's answer; it may be on a slow share
_PR_SET_MM, _PR_SET_MM_MAP_SIZE = 35, 15
# What the engine's interpreter runs: words as JSON in, an answer as JSON out.
_QUESTION = r"""
import importlib.machinery as machinery, json, os, site, sys
asked = json.loads(sys.argv[1])
prefixes = [sys.prefix, sys.exec_prefix]
above = os.path.dirname(os.path.dirname(sys.executable))
marker = os.path.join(above, "pyvenv.cfg")
if os.path.isfile(marker):
    with open(marker) as file:
        text = file.read().lower().replace(" ", "")
    prefixes = [above] + (prefixes if "include-system-site-packages=true" in text else [])
folders, hooks = [], []
if asked["site"]:
    folders = site.getsitepackages(list(dict.fromkeys(prefixes)))
    folders += [site.getusersitepackages()] if asked["user"] else []
path = asked["path"] + sys.path
for folder in filter(os.path.isdir, folders):
    path.append(folder)
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".pth") or name.startswith("."):
            continue
        with open(os.path.join(folder, name), errors="replace") as file:
            for line in map(str.strip, file):
                if line.startswith(("import ", "import\t")):
                    hooks.append(name)
                elif line and not line.startswith("#"):
                    path.append(os.path.join(folder, line))
def find_absent(name):
    parts, at = name.split("."), path
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        if at is None:
            return part
        if count == 1 and part in sys.builtin_module_names:
            at = None
            continue
        spec = machinery.PathFinder.find_spec(part, at) or machinery.FrozenImporter.find_spec(part)
        if spec is None:
            return part
        at = spec.submodule_search_locations
        at = list(getattr(at, "_path", at)) if at is not None else None
    return ""
absent = {name: part for name in asked["modules"] for part in [find_absent(name)] if part}
print(json.dumps({"version": sys.version_info[:2], "absent": absent, "hooks": hooks}))
"""


@dataclass(frozen=True, slots=True)
class EnginePython:
    """What the engine's interpreter says of itself.

    Attributes:
        absent: a module that is to be imported -> the part of its name that is not installed.
        hooks: files that may make more modules importable than can be found without running them.

    """

    version: tuple[int, int]
    absent: Mapping[str, str]
    hooks: Sequence[str]


def ask_python(command: PythonCommand, env: Mapping[str, str], modules: Sequence[str]) -> EnginePython:
    """Ask the command's interpreter for its version, and which of these modules it would not find.

    Raises:
        OSError: it cannot be run.
        ValueError: it does not answer as Python does.

    """
    options = {letter for word in command.words[1 : command.options] for letter in _list_flags(word)}
    own = [] if {"I", "P"} & options else [command.find_first_path(os.getcwd())]  # noqa: PTH109
    more = [] if {"I", "E"} & options else list(filter(None, env.get("PYTHONPATH", "").split(os.pathsep)))
    asked = {
        "modules": list(modules),
        "path": [*own, *more],
        "site": "S" not in options,
        "user": not ({"I", "s", "S"} & options or env.get("PYTHONNOUSERSITE")),
    }
    words = [command.interpreter, "-I", "-S", "-c", _QUESTION, json.dumps(asked)]
    try:
        done = subprocess.run(
            words, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
        answer = json.loads(done.stdout)
        return EnginePython(tuple(answer["version"]), answer["absent"], answer["hooks"])
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command.interpreter} does not answer within {_SECONDS:g} s") from None
    except (ValueError, KeyError, TypeError):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ValueError(f"{command.interpreter} does not answer as Python does: {last}") from None


def _list_flags(word: str) -> str:
    """Return the letters of an option word that takes no value."""
    found = re.fullmatch(r"-([A-VYZa-vyz]+)", word)
    return found[1] if found else ""


def explain_kernel() -> str:
    """Return why this kernel, or the sandbox around this process, allows no warm start; empty if it does."""
    if not become_subreaper():
        return "the kernel does not hand orphans to an agent here"
    try:
        os.close(os.memfd_create("unit-doctor"))
    except OSError as error:
        return f"memfd_create is refused: {error.strerror}"
    return "" if Path("/proc/self/status").is_file() else "/proc is not mounted"


def shows_environment() -> bool:
    """Whether ``/proc/PID/environ`` can show the environment of a process that was not executed with it."""
    size = ctypes.c_uint()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return int(prctl(_PR_SET_MM, _PR_SET_MM_MAP_SIZE, ctypes.byref(size), 0, 0)) == 0
