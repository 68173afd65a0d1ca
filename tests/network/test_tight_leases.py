"""A lease of two heartbeats, the tightest pair that is accepted, keeps every promise."""

from __future__ import annotations

import signal
import time

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab

PAIRS = [(2, 1), pytest.param(10, 5, marks=pytest.mark.slow)]
HEIR = 2  # the spare host


def timed(lease: int, heartbeat: int) -> dict[str, object]:
    return {
        "UNIT_LEASE_SECONDS": lease,
        "UNIT_HEARTBEAT_SECONDS": heartbeat,
        "UNIT_BACKOFF_SECONDS": "0",
    }


def seconds_until_noticed(lab: Lab, deadline: float) -> tuple[float, float]:
    """How long it took until rank 0 told a failure; and the floor: the longest pause between two looks, which
    says how late this machine was with everything.
    """
    began = looked = time.monotonic()
    floor = 0.0

    def told() -> bool:
        nonlocal looked, floor
        found = lab.agents[0].status().get("failure")
        floor, looked = max(floor, time.monotonic() - looked), time.monotonic()
        return bool(found)

    while not told():
        assert looked - began < deadline, f"no failure is told:\n{lab.story()}"
        time.sleep(0.02)
    return time.monotonic() - began, floor


@pytest.mark.parametrize(("lease", "heartbeat"), PAIRS)
def test_a_frozen_agent_is_lost_within_the_lease_and_a_second(
    make_lab: MakeLab, lease: int, heartbeat: int
) -> None:
    lab = make_lab(2)
    lab.form(**timed(lease, heartbeat))
    lab.agents[1].signal(signal.SIGSTOP)
    took, floor = seconds_until_noticed(lab, 3 * lease + 10)
    assert took < lease + 1 + 0.2 + 3 * floor, f"{took:.2f} s, with looks {floor:.2f} s apart at most"
    failure = lab.agents[0].status()["failure"]
    assert (failure["rank"], failure["reason"]) == (1, "lost")


@pytest.mark.slow
@pytest.mark.parametrize(("lease", "heartbeat"), PAIRS)
def test_a_replacement_elsewhere_gets_the_rank_of_a_silent_holder(
    make_lab: MakeLab, lease: int, heartbeat: int
) -> None:
    lab = make_lab(2, spare=1)
    generation = lab.form(**timed(lease, heartbeat))["generation"]
    lab.agents[1].signal(signal.SIGSTOP)
    heir = lab.start(HEIR, RANK_ID=1, **timed(lease, heartbeat))
    lab.until(
        lambda: heir.said("joined Unit lab as rank 1"), "the heir has the rank", lease + 2 + heartbeat + 10
    )
    lab.wait_ready(above=generation, hosts=(0, HEIR))
    assert lab.agents[0].status()["instances"][1]["hostname"] == f"host{HEIR}"
    lab.agents[1].signal(signal.SIGCONT)
    assert lab.agents[1].code() == 76
