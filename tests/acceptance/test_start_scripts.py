"""A start script that ends while what it started runs on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.local import unitagent
from tests.ports import free_port


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("nohup sleep 1000 >/dev/null 2>&1 &", "it left a process in the background"),
        ("for each in 1 2; do sleep 1000 & done", "it left 2 processes in the background"),
        ("true", ""),
    ],
)
def test_an_end_with_0_says_why_it_is_a_failure(tmp_path: Path, script: str, left: str) -> None:
    given = {"UNIT_SIZE": "1", "RANK_ID": "0", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1"}
    given |= {
        "UNIT_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
        "UNIT_ID": tmp_path.name,
        "UNIT_LOG_FORMAT": "text",
    }
    done = unitagent("run", "--", "sh", "-c", script, **given)
    assert done.returncode == 1
    assert "exited with code 0, which counts as a failure in service mode (UNIT_MODE)" in done.stderr
    assert left in done.stderr
    assert ("in the background" in done.stderr) == bool(left)
