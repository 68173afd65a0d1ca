"""A lease and a heartbeat that cannot keep the promises are refused, with the nearest pair that can."""

from __future__ import annotations

import pytest

from tests.acceptance.local import unitagent


@pytest.mark.parametrize(
    ("lease", "heartbeat", "near"),
    [("0.1", "0.05", ("1", "0.2")), ("5", "3", ("5", "2.5"))],
)
def test_a_pair_that_cannot_keep_the_promises_is_refused(
    lease: str, heartbeat: str, near: tuple[str, str]
) -> None:
    who = {"UNIT_SIZE": "1", "RANK_ID": "0", "RANK_IP": "127.0.0.1", "COMM_IFNAME": "lo"}
    done = unitagent("run", "--", "false", UNIT_LEASE_SECONDS=lease, UNIT_HEARTBEAT_SECONDS=heartbeat, **who)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("unitagent: error: ")
    assert lease in line
    assert heartbeat in line
    assert f"UNIT_LEASE_SECONDS={near[0]} with UNIT_HEARTBEAT_SECONDS={near[1]}" in line
    named = unitagent("env", UNIT_LEASE_SECONDS=near[0], UNIT_HEARTBEAT_SECONDS=near[1], **who)
    assert named.returncode == 0, named.stderr
