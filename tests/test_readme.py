"""The pages say what the program does: what they name and link to exists, and what they show runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unitagent.cli import COMMANDS
from unitagent.settings.variables import VARIABLES
from unitagent.store.keys import PERMISSIONS

ROOT = Path(__file__).parents[1]
README, SECURITY, CONTRIBUTING = (ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md"))
OPERATOR = ROOT / "unitagent" / "operator" / "README.md"
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part[0] == "." or part == "build" for part in page.relative_to(ROOT).parts)
)
FILES = sorted((ROOT / "unitagent").rglob("*.py"))
MOST_LINES = 250
# Heartbeat, network interface, the Unit's keys in the store, disconnected.
UNEXPLAINED = re.compile(r"\b(?:beats?|cards?|boards?|put out)\b", re.IGNORECASE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS = {
    "UNIT_GENERATION",
    "UNIT_RANK_IPS",
    "UNIT_KEEPER_GENERATION",
    "UNIT_KEEPER_PORT",
    "UNIT_IMAGE",
}  # the last for Compose, the others for the workload
FOLDERS = tuple(f"{name}/" for name in (".ci", "docker", "scripts", "tests", "unitagent"))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Every block of these languages, with its page."""
    found = (
        (named(page), *block) for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    )
    return [(page, code) for page, language, code in found if language in languages]


pages = pytest.mark.parametrize("page", PAGES, ids=named)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README) if "://" not in target}
    assert set(PAGES) - linked <= {README}


def test_the_generated_tables_are_the_program_s() -> None:
    argv = [sys.executable, "scripts/readme.py", "--check"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pages
def test_every_variable_it_names_exists(page: Path) -> None:
    text = re.sub(r"NOMAD_META_UNIT_SIZE", "", page.read_text(encoding="utf-8"))
    assert set(re.findall(r"\bUNIT_[A-Z_]*[A-Z]\b(?!_)", text)) - VARIABLES.keys() <= OTHERS


@pages
def test_it_has_no_word_that_nobody_explains(page: Path) -> None:
    assert UNEXPLAINED.findall(re.sub(r"`[^`]*`", "", prose(page))) == []


@pytest.mark.parametrize("file", FILES, ids=named)
def test_no_message_has_a_word_that_nobody_explains(file: Path) -> None:
    tree = ast.parse(file.read_text())
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare)
    messages = [node.value for node in texts if isinstance(node.value, str) and " " in node.value]
    assert [text for text in messages if UNEXPLAINED.search(re.sub(r"`[^`]*`", "", text))] == []


@pages
def test_every_command_it_shows_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^\s*(?:\$ )?|`)unitagent ([a-z]+)", text, re.MULTILINE)) <= COMMANDS.keys()


def test_every_command_has_a_row() -> None:
    table = OPERATOR.read_text(encoding="utf-8").partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`unitagent ([a-z]+)", table)) == COMMANDS.keys()


@pages
def test_what_it_links_to_is_there(page: Path) -> None:
    for target in links(page):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    return set(map(make_anchor, re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)))


def make_anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pages
def test_its_contents_name_every_section(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    contents = re.search(r"\n\n(\[[^\]]+\]\(#[^)]+\) ·.+?)\n\n", text, re.DOTALL)
    if contents:
        listed = re.findall(r"\]\(#([^)]+)\)", contents[1])
        assert listed == list(map(make_anchor, re.findall(r"^## (.+)$", text, re.MULTILINE)))


@pages
def test_every_file_it_names_exists(page: Path) -> None:
    """Paths from the top, in backticks, in a link's text or in a command."""
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    for path in re.findall(r"(?<![\w./-])((?:\.ci|docker|scripts|tests|unitagent)/[\w./*-]*\w)", text):
        if _is_made(path):
            continue
        assert any(ROOT.glob(path)) or any(page.parent.glob(path)), path


def _is_made(path: str) -> bool:
    """Whether this is something that a build makes, or no path of the repository."""
    return path.startswith(("unitagent/unitagent", "docker/wheels"))


def test_contributing_names_files_that_exist() -> None:
    """What stands in backticks and ends like a file, below the top or one of its folders."""
    names = set(
        re.findall(r"`([\w./-]+\.(?:py|sh|lua|toml|md|html|yaml|cfg|txt))`", CONTRIBUTING.read_text())
    )
    assert len(names) > 20
    assert sorted(name for name in names if not _is_there(name)) == []


def _is_there(name: str) -> bool:
    return any((ROOT / folder / name).exists() for folder in ("", *FOLDERS))


def test_the_acl_line_has_what_the_program_asks() -> None:
    assert f"nocommands {PERMISSIONS}\n" in SECURITY.read_text(encoding="utf-8")


def test_each_attack_names_tests_that_exist() -> None:
    tests = re.findall(r"`((?:\w+/)?test_\w+\.py)`", SECURITY.read_text(encoding="utf-8"))
    assert len(tests) > 20
    places = [ROOT / "tests", ROOT / "tests" / "security"]
    assert not [name for name in tests if not any((place / name).exists() for place in places)]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    languages = {
        language for page in PAGES for language, _ in BLOCK.findall(page.read_text(encoding="utf-8"))
    }
    assert languages <= {"sh", "yaml", "json", "dockerfile", "text"}


@pytest.mark.parametrize(("page", "code"), blocks("sh"))
def test_a_shell_understands_its_commands(page: str, code: str) -> None:
    assert (
        subprocess.run(["bash", "-n"], input=code.replace("…", ""), text=True, check=False).returncode == 0
    ), page


@pytest.mark.parametrize(("page", "code"), blocks("sh"))
def test_its_commands_have_these_options(page: str, code: str) -> None:
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["unitagent"] or words[1].startswith("-"):
            continue
        own = words[2 : words.index("--") if "--" in words else None]
        options = {word.partition("=")[0] for word in own if word.startswith("--")}
        assert options <= _options(words[1]), page


def _options(command: str) -> set[str]:
    shows_all = "--help-all" if COMMANDS[command].variables else "--help"
    argv = [sys.executable, "-m", "unitagent", command, shows_all]
    text = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z-]+", text))


@pytest.mark.parametrize(("page", "code"), blocks("yaml"))
def test_its_yaml_is_yaml(page: str, code: str) -> None:
    assert isinstance(yaml.safe_load(code), dict), page


@pytest.mark.parametrize(("page", "code"), blocks("json"))
def test_its_json_is_json(page: str, code: str) -> None:
    assert isinstance(json.loads(code), dict), page


@pytest.mark.parametrize(("page", "code"), blocks("dockerfile"))
def test_its_dockerfile_fits_ours(page: str, code: str) -> None:
    """Targets and arguments are those of our Dockerfile, and so is the folder that is copied."""
    ours = (ROOT / "docker" / "Dockerfile").read_text()
    for target in re.findall(r"--target (\S+)", code):
        assert f" AS {target}\n" in ours, page
    for copied in re.findall(r"^COPY --from=\S+ (\S+) (\S+)$", code, re.MULTILINE):
        assert f"COPY --from=packed {copied[0]} {copied[1]}\n" in ours, page
    instructions = set(re.findall(r"^([A-Z]+) ", code, re.MULTILINE))
    assert instructions
    assert instructions <= {"COPY", "ENV", "RUN", "ENTRYPOINT", "CMD"}


def test_its_lines_for_haproxy_are_those_that_run() -> None:
    configurations = "".join(each.read_text() for each in (ROOT / "docker").glob("haproxy*.cfg"))
    running = [_setting(line) for line in configurations.splitlines()]
    shown = [line for _, code in blocks("text") if code.startswith("    ") for line in code.splitlines()]
    assert shown
    for line in shown:
        assert any(setting.startswith(_setting(line)) for setting in running), line


def _setting(line: str) -> str:
    """A line without its comment, and with single spaces."""
    return " ".join(line.partition("#")[0].split())
