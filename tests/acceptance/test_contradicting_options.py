"""Words of the user that contradict the Unit: said before anything starts, the store of rank 0 included."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.acceptance.local import unitagent
from tests.ports import free_port


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_unit_of_another_size(tmp_path: Path, rank: str) -> None:
    engine, trace = tmp_path / "vllm", tmp_path / "ran"
    engine.write_text(f"#!/bin/sh\necho >{trace}\nexec sleep 1000\n")
    engine.chmod(0o755)
    port = free_port()
    own = ["--size", "2", "--rank", rank, "--rank-ip", "127.0.0.1", "--comm-ifname", "lo"]
    own += ["--http-address", f"127.0.0.1:{port}", "--master-address", "127.0.0.1", "--framework", "vllm"]
    with socket.create_server(("127.0.0.1", port + 1)):  # where the store would go, and could not
        done = unitagent("run", *own, "--", str(engine), "serve", "M", "--nnodes", "3")
    assert done.returncode == 2
    assert done.stderr.startswith("unitagent: error: --nnodes 3: the Unit has 2 instances")
    assert len(done.stderr.splitlines()) == 1
    assert not trace.exists()
