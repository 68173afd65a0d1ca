"""What a package index gets: a description whose links lead somewhere, and one version."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path
from types import ModuleType

import pytest

from unitagent import __version__

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def setup_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_without_an_address_the_text_of_a_link_stays(setup_py: ModuleType) -> None:
    text = setup_py.write_description(README, "")
    assert not targets(text)
    assert "[all settings]" not in text
    assert "all settings" in text


def test_with_an_address_each_link_is_absolute(setup_py: ModuleType) -> None:
    files = "https://example.org/unitagent/blob/v1/"
    text = setup_py.write_description(README, files)
    assert targets(text) == [files + target for target in targets(README)]
    assert len(targets(text)) > 30


def test_other_links_and_code_stay_as_they_are(setup_py: ModuleType) -> None:
    text = "[a](https://b.org) [c](mailto:d@e.org) `[CMD, unitagent]` [f](g.md#h)"
    assert setup_py.write_description(text, "https://x/") == text.replace("(g.md", "(https://x/g.md")


@pytest.mark.slow
def test_a_wheel_is_built_from_what_an_image_gets(tmp_path: Path) -> None:
    """It has the version of the code and all that is not Python, and no tests."""
    pytest.importorskip("setuptools")
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    (copied,) = set(re.findall(r"^COPY (pyproject\S* .*) \./$", dockerfile, re.MULTILINE))
    for name in copied.split():
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "unitagent", tmp_path / "unitagent", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "made", "."]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "made").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = message_from_bytes(archive.read(f"unitagent-{__version__}.dist-info/METADATA"))
    assert about["Version"] == __version__
    assert about["Description-Content-Type"] == "text/markdown"
    assert str(about.get_payload()).startswith("# unitagent")
    kinds = ("*.py", "*.lua", "*.html")
    shipped = {str(file.relative_to(ROOT)) for kind in kinds for file in (ROOT / "unitagent").rglob(kind)}
    assert shipped <= names
    assert {name.partition("/")[0] for name in names} == {"unitagent", f"unitagent-{__version__}.dist-info"}
