"""The README says what the program does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unitagent.cli import COMMANDS
from unitagent.settings.variables import VARIABLES
from unitagent.store.keys import PERMISSIONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "docker/EAS.md", "docker/kubernetes/README.md")]
FILES = sorted((ROOT / "unitagent").rglob("*.py"))
# Heartbeat, network interface, the Unit's keys in the store, disconnected.
UNEXPLAINED = re.compile(r"\b(?:beats?|cards?|boards?|put out)\b", re.IGNORECASE)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_table_of_variables_is_the_program_s() -> None:
    argv = [sys.executable, "scripts/readme.py", "--check"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pages
def test_every_variable_it_names_exists(page: Path) -> None:
    given = {"UNIT_GENERATION", "UNIT_RANK_IPS", "UNIT_IMAGE"}  # to the workload, and to Compose
    text = re.sub(r"NOMAD_META_UNIT_SIZE", "", page.read_text())
    named = set(re.findall(r"\bUNIT_[A-Z_]*[A-Z]\b(?!_)", text))
    assert named
    assert named - VARIABLES.keys() <= given


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_it_has_no_word_that_nobody_explains(page: Path) -> None:
    assert UNEXPLAINED.findall(re.sub(r"`[^`]*`", "", page.read_text())) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_message_has_a_word_that_nobody_explains(file: Path) -> None:
    tree = ast.parse(file.read_text())
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare)
    messages = [node.value for node in texts if isinstance(node.value, str) and " " in node.value]
    assert [said for said in messages if UNEXPLAINED.search(re.sub(r"`[^`]*`", "", said))] == []


@pages
def test_every_command_it_shows_exists(page: Path) -> None:
    shown = set(re.findall(r"(?:^\s*(?:\$ )?|`)unitagent ([a-z]+)", page.read_text(), re.MULTILINE))
    assert shown
    assert shown <= COMMANDS.keys()


def test_it_shows_every_command() -> None:
    table = (ROOT / "README.md").read_text().partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`unitagent ([a-z]+)", table)) == COMMANDS.keys()


@pages
def test_what_it_links_to_is_there(page: Path) -> None:
    headings = {_anchor(line) for line in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    assert targets
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def test_the_contents_name_every_section() -> None:
    text = (ROOT / "README.md").read_text()
    contents = re.search(r"^Contents: (.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert contents
    listed = re.findall(r"\[([^\]]+)\]\(#", contents[1])
    assert listed == [
        heading for heading in re.findall(r"^## (.+)$", text, re.MULTILINE) if heading != "Words"
    ]


def test_the_acl_line_has_what_the_program_asks() -> None:
    assert f"nocommands {PERMISSIONS}\n" in (ROOT / "README.md").read_text()


def test_each_attack_names_tests_that_exist() -> None:
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    places = [ROOT / "tests", ROOT / "tests" / "security"]
    assert not [name for name in named if not any((place / name).exists() for place in places)]
