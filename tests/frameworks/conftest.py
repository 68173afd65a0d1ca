"""Real frameworks in labs: labs come from the network tests, the frameworks from the project's script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks.installed import RAY, TORCH, VLLM, trouble
from tests.network.conftest import make_lab

__all__ = ["make_lab"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the environment of the frameworks, whose imports alone may take long."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.frameworks)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(480))


@pytest.fixture(scope="session")
def torch() -> Path:
    """The programs of an environment with a PyTorch that works."""
    return _working(TORCH, "torch", "scripts/frameworks-venv.sh")


@pytest.fixture(scope="session")
def ray() -> Path:
    """The programs of an environment with a Ray that works."""
    return _working(RAY, "ray", "scripts/frameworks-venv.sh --ray")


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The programs of an environment with a vLLM that works."""
    return _working(VLLM, "vllm", "scripts/frameworks-venv.sh --vllm")


@pytest.fixture(scope="session")
def deepspeed() -> Path:
    """The programs of an environment with a DeepSpeed that works."""
    return _working(TORCH, "deepspeed", "scripts/frameworks-venv.sh --parsers")


@pytest.fixture(scope="session")
def parsers() -> Path:
    """The programs of an environment with engines that are there without their dependencies."""
    for package in ("sglang", "lmdeploy", "accelerate"):
        _working(TORCH, package, "scripts/frameworks-venv.sh --parsers", complete=False)
    return TORCH


def _working(environment: Path, package: str, remedy: str, *, complete: bool = True) -> Path:
    if why := trouble(environment, package, complete=complete):
        pytest.skip(f"{why}; run {remedy}")
    return environment
