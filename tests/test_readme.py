"""The README says what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from unitagent.cli import COMMANDS
from unitagent.settings.variables import VARIABLES
from unitagent.store.keys import PERMISSIONS

ROOT = Path(__file__).parents[1]


def test_the_table_of_variables_is_the_program_s() -> None:
    argv = [sys.executable, "scripts/readme.py", "--check"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_variable_it_names_exists() -> None:
    given = {"UNIT_GENERATION", "UNIT_RANK_IPS"}  # to the workload
    named = set(re.findall(r"\bUNIT_[A-Z_]+\b", (ROOT / "README.md").read_text()))
    assert named - VARIABLES.keys() == given


def test_every_command_it_shows_exists() -> None:
    shown = set(re.findall(r"^\s*(?:\$ )?unitagent ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown
    assert shown <= COMMANDS.keys()


def test_the_acl_line_has_what_the_program_asks() -> None:
    assert f"nocommands {PERMISSIONS}\n" in (ROOT / "README.md").read_text()
