"""Say what an installed agent is made of, as CycloneDX: ``sbom.py >sbom.cdx.json``, run by its own Python.

Listed are the packages that the agent and its embedded store ask for, as they are installed, and Python.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib import metadata
from typing import Any

ROOT = "unitagent"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)")


def main() -> int:
    print(json.dumps(document(), indent=2))
    return 0


def document() -> dict[str, Any]:
    """The whole of it; equal for equal environments, so it has neither a time nor a number of its own."""
    asked = closure(ROOT)
    python = {"type": "platform", "name": "python", "version": platform.python_version(), "bom-ref": "python"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(ROOT)},
        "components": [*(component(name) for name in sorted(asked) if name != ROOT), python],
        "dependencies": [
            {"ref": reference(name), "dependsOn": sorted(map(reference, asked[name]))}
            for name in sorted(asked)
        ],
    }


def closure(root: str) -> dict[str, set[str]]:
    """Each package that is installed because of ``root``, and what it asks for in turn."""
    found: dict[str, set[str]] = {root: set()}
    waiting = [(root, {"embedded"})]
    while waiting:
        name, extras = waiting.pop()
        for one, its_extras in asked_by(name, extras).items():
            if is_installed(one):
                found[name].add(one)
                if one not in found or its_extras:
                    found.setdefault(one, set())
                    waiting.append((one, its_extras))
    return found


def asked_by(name: str, extras: set[str]) -> dict[str, set[str]]:
    """What a package asks for with these of its extras, and which extras of that."""
    asked: dict[str, set[str]] = {}
    for text in metadata.requires(name) or []:
        named, only = _NAMED.match(text), _EXTRA.search(text)
        if named and (only is None or only[1] in extras):
            asked[plain(named[1])] = set(filter(None, (named[2] or "").split(",")))
    return asked


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def component(name: str) -> dict[str, Any]:
    told = metadata.metadata(name)
    license_ = next((told[key] for key in ("License-Expression", "License") if key in told), "")
    named = [{"license": {"name": license_.splitlines()[0][:100]}}] if license_ else []
    version = metadata.version(name)
    return {
        "type": "application" if name == ROOT else "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "bom-ref": reference(name),
        "licenses": named,
    }


def reference(name: str) -> str:
    return f"{name}@{metadata.version(name)}"


def plain(name: str) -> str:
    """One name for all its spellings."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
