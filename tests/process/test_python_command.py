"""Which Python program a command runs: as the kernel, ``env`` and Python itself read it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from unitagent.workload.python_command import PythonCommand, UnresolvedError, resolve_python

PYTHON = sys.executable
ENV = {"PATH": os.pathsep.join((str(Path(PYTHON).parent), os.defpath))}
LONG_PATH = f"#!/bin/sh\n'''exec' \"{PYTHON}\" \"$0\" \"$@\"\n' '''\n"


def resolve(*argv: str) -> PythonCommand:
    return resolve_python(argv, ENV)


def script(folder: Path, text: str, name: str = "engine") -> str:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("argv", "options", "kind", "target", "seen"),
    [
        (["x.py", "-m"], 1, "file", "x.py", ("x.py", "-m")),
        (["-u", "-Xdev", "-X", "utf8", "x.py"], 5, "file", "x.py", ("x.py",)),
        (["-W", "ignore", "-m", "a.b", "-c"], 3, "module", "a.b", ("-m", "-c")),
        (["-ma.b", "c"], 1, "module", "a.b", ("-m", "c")),
        (["-c", "pass", "-u"], 1, "command", "pass", ("-c", "-u")),
        (["--check-hash-based-pycs", "never", "x.py"], 3, "file", "x.py", ("x.py",)),
    ],
)
def test_the_command_line_of_python(
    argv: list[str], options: int, kind: str, target: str, seen: tuple[str, ...]
) -> None:
    found = resolve(PYTHON, *argv)
    assert (found.options, found.kind, found.target, found.argv) == (options, kind, target, seen)


def test_a_script_is_read_as_the_kernel_reads_it(tmp_path: Path) -> None:
    path = script(tmp_path, f"#! {PYTHON} -sB\n")
    found = resolve(path, "a")
    assert (found.interpreter, found.words, found.name) == (PYTHON, (PYTHON, "-sB", path, "a"), "engine")


@pytest.mark.parametrize("line", ["#!/usr/bin/env python3", "#!/usr/bin/env -S python3"])
def test_env_looks_on_the_path(tmp_path: Path, line: str) -> None:
    path = script(tmp_path, f"{line}\n")
    found = resolve(path)
    assert found.words == ("python3", path)
    assert found.interpreter == str(Path(PYTHON).parent / "python3")
    assert found.name == "python3"


def test_pips_script_for_a_long_path(tmp_path: Path) -> None:
    path = script(tmp_path, LONG_PATH)
    assert resolve(path, "a").words == (PYTHON, path, "a")


def test_a_link_of_a_script_leads_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.py").symlink_to(script(tmp_path / "real", ""))
    assert resolve(PYTHON, "link.py").find_first_path(str(tmp_path)) == str(tmp_path / "real")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["sh", "-c", "python3 x.py"], "COMMAND runs sh, and no Python"),
        (["env", "A=1", "python3", "x.py"], "COMMAND runs env, and no Python"),
        (["no-such-program"], "not found"),
        ([PYTHON], "names no script"),
        ([PYTHON, "-u"], "names no script"),
        ([PYTHON, "-"], "names no script"),
        ([PYTHON, "-i", "x.py"], "-i is not known"),
        ([PYTHON, "-um", "a"], "-um is not known"),
        ([PYTHON, "/"], "not a script"),
        ([PYTHON, "x.pyc"], "not a script"),
    ],
)
def test_what_is_no_plain_python_program(argv: list[str], why: str) -> None:
    with pytest.raises(UnresolvedError, match=why):
        resolve(*argv)


@pytest.mark.parametrize("text", ["#!/usr/bin/env -S A=1 python3\n", "#!/bin/bash\n"])
def test_scripts_of_others(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnresolvedError):
        resolve(script(tmp_path, text))


@pytest.mark.parametrize("name", ["fifo", "folder", "/dev/null", ""])
def test_what_cannot_be_read_twice_is_no_script(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnresolvedError, match="not a script in plain text"):
        resolve(PYTHON, name and str(tmp_path / name))


def test_a_name_that_no_file_can_have_is_left_to_python() -> None:
    assert resolve(PYTHON, "x" * 300).target == "x" * 300


def test_a_first_line_that_env_does_not_understand_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnresolvedError, match="No closing quotation"):
        resolve(script(tmp_path, '#!/usr/bin/env -S python3 "x\n'))
