"""What pyproject.toml cannot say: the description for a package index is README.md, whose relative links lead
nowhere there. With the project's address they become absolute, and without it their text alone is kept.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)([^)\s]+)\)")


def write_description(readme: str, files: str) -> str:
    """Return ``readme`` for another place; ``files`` is the URL of the folder that it is in, or empty."""
    if not files:
        return RELATIVE_LINK.sub(r"\1", readme)
    return RELATIVE_LINK.sub(lambda link: f"[{link[1]}]({files.rstrip('/')}/{link[2].lstrip('/')})", readme)


def find_files_url() -> str:
    """Return where the files of this release are shown, by ``[tool.unitagent]`` of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["tool"]["unitagent"]["files-url"])


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=write_description(readme, find_files_url()),
        long_description_content_type="text/markdown",
    )
