"""Variables that were made for another machine: ``run`` says that they leave a card out, or an address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo


@pytest.mark.parametrize(
    ("name", "value", "odd"),
    [
        ("GLOO_SOCKET_IFNAME", "enP7s7", True),
        ("GLOO_SOCKET_IFNAME", "=lo", True),
        ("NCCL_SOCKET_IFNAME", "^lo,docker0", True),
        ("NCCL_SOCKET_IFNAME", "=lo", False),
        ("GLOO_SOCKET_IFNAME", "lo", False),
    ],
)
@pytest.mark.parametrize("by_file", [False, True])
def test_run_warns(tmp_path: Path, name: str, value: str, odd: bool, by_file: bool) -> None:
    given = {name: value}
    if by_file:
        file = tmp_path / "service.json"
        env = [{"name": name, "value": value}]
        file.write_text(json.dumps({"containers": [{"script": "unused", "env": env}]}))
        given = {"UNIT_CONFIG": str(file)}
    solo = Solo(tmp_path, **given)
    try:
        solo.ready()
    finally:
        solo.close()
    lines = solo.output.read_text().splitlines()
    told = [line for line in lines if f"{name}={value} excludes the interface lo" in line]
    assert len(told) == odd
    assert all(f"unset {name}, or set COMM_IFNAME" in line for line in told)


@pytest.mark.parametrize(
    ("name", "value", "odd"),
    [
        ("VLLM_HOST_IP", "192.0.2.77", True),
        ("SGLANG_HOST_IP", "localhost", True),
        ("VLLM_HOST_IP", "127.0.0.1", False),
        ("HOST_IP", "192.0.2.77", False),
    ],
)
def test_run_warns_of_an_address_of_another_machine(tmp_path: Path, name: str, value: str, odd: bool) -> None:
    solo = Solo(tmp_path, **{name: value})
    try:
        solo.ready()
    finally:
        solo.close()
    told = f"{name}={value} is not this instance's address 127.0.0.1"
    assert (told in solo.output.read_text()) == odd
