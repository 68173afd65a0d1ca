"""Variables that were made for another machine: ``run`` says that they leave a card out, or an address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.solo import Solo

# What an agent is given at once, and of which variables it warns.
CASES: list[tuple[dict[str, str], dict[str, str], set[str]]] = [
    (
        {"GLOO_SOCKET_IFNAME": "enP7s7", "NCCL_SOCKET_IFNAME": "^lo,docker0"},
        {"VLLM_HOST_IP": "192.0.2.77", "SGLANG_HOST_IP": "localhost"},
        {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "VLLM_HOST_IP", "SGLANG_HOST_IP"},
    ),
    (
        {"GLOO_SOCKET_IFNAME": "=lo", "NCCL_SOCKET_IFNAME": "=lo"},
        {"VLLM_HOST_IP": "127.0.0.1", "HOST_IP": "192.0.2.77"},
        {"GLOO_SOCKET_IFNAME"},
    ),
    ({"GLOO_SOCKET_IFNAME": "lo"}, {}, set()),
]


@pytest.mark.parametrize(("interfaces", "addresses", "odd"), CASES)
@pytest.mark.parametrize("by_file", [False, True])
def test_run_warns(
    tmp_path: Path, interfaces: dict[str, str], addresses: dict[str, str], odd: set[str], by_file: bool
) -> None:
    given = interfaces
    if by_file:
        file = tmp_path / "service.json"
        env = [{"name": name, "value": value} for name, value in interfaces.items()]
        file.write_text(json.dumps({"containers": [{"script": "unused", "env": env}]}))
        given = {"UNIT_CONFIG": str(file)}
    solo = Solo(tmp_path, **given, **addresses)
    try:
        solo.ready()
    finally:
        solo.close()
    lines = solo.output.read_text().splitlines()
    for name, value in interfaces.items():
        told = [line for line in lines if f"{name}={value} excludes the interface lo" in line]
        assert len(told) == (name in odd)
        assert all(f"unset {name}, or set COMM_IFNAME" in line for line in told)
    for name, value in addresses.items():
        told = [line for line in lines if f"{name}={value} is not this instance's address 127.0.0.1" in line]
        assert bool(told) == (name in odd)
