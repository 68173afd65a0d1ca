"""An order that meets a restart, or a barrier, is carried out: no moment is wrong for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.network.cabling import STORE_IP
from tests.network.conftest import MakeLab
from tests.network.containers import ROOT
from tests.network.lab import Lab
from tests.network.platform import Platform
from tests.network.redis_server import PORT
from tests.waiting import throughout, until

UNITS = 10
BOARD = "unitagent:{lab}:board"


class Order:
    """A command that an operator has typed, on the store's machine."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self._lab = lab
        self._log = lab.folder / "order.log"
        self._former = self._kept()
        given = {"PATH": os.environ["PATH"], "UNIT_REDIS_URL": f"redis://{STORE_IP}:{PORT}/0"}
        argv = [*lab.net.store.enter(), sys.executable, "-m", "unitagent", *words, "--unit", "lab"]
        with self._log.open("wb") as output:
            self._popen = subprocess.Popen(argv, env=given, cwd=ROOT, stdout=output, stderr=output)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def is_kept(self) -> None:
        """Wait until the store has it."""
        until(lambda: self._kept() != self._former, "the store has the order", pause=0.002)

    def succeeds(self, deadline: float = 60.0) -> None:
        """Wait until it returns 0."""
        self._lab.until(lambda: self._popen.poll() is not None, f"it returns; it said {self.said}", deadline)
        assert self._popen.returncode == 0, self.said

    def _kept(self) -> object:
        return self._lab.store.client.hget(BOARD, "order")

    def close(self) -> None:
        self._popen.kill()
        self._popen.wait()


@contextmanager
def ordered(lab: Lab, *words: str) -> Iterator[Order]:
    order = Order(lab, *words)
    try:
        yield order
    finally:
        order.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", ["failure", "order"])
def test_a_drain_that_meets_a_failure_is_never_lost(make_lab: MakeLab, first: str) -> None:
    """Each Unit pauses a little longer before its restart, so the order meets another moment of it."""
    lab = make_lab(2)
    for unit in range(UNITS):
        pause = {"UNIT_BACKOFF_SECONDS": round(0.1 * unit, 1), "UNIT_DEREGISTER_SECONDS": 0.1}
        before = max(lab.generations(), default=0)
        lab.start_all("lingers=0.2", **pause)
        lab.begun(lab.wait_ready(above=before)["generation"])
        with ordered(lab, "drain") as order:
            if first == "order":
                order.is_kept()
            lab.strike(unit % 2)
            order.succeeds()
        assert lab.codes() == [0, 0], lab.story()
        assert not lab.watcher.alive()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_drain_that_meets_a_rebuild_of_all_is_never_lost(make_lab: MakeLab) -> None:
    """Who is built anew after the order obeys it too, where its predecessor had no time to."""
    lab = make_lab(2)
    for unit in range(UNITS):
        given = {"UNIT_RESTART": "recreate", "UNIT_BACKOFF_SECONDS": "0", "UNIT_DEREGISTER_SECONDS": 0.1}
        before = max(lab.generations(), default=0)
        with Platform(lab) as platform:
            lab.start_all("lingers=0.2", **given)
            lab.begun(lab.wait_ready(above=before)["generation"])
            with ordered(lab, "drain") as order:
                lab.strike(unit % 2)
                order.succeeds()
            platform.given_up((0, 1), 20)
        assert [platform.codes[host][-1] for host in (0, 1)] == [0, 0]


@pytest.mark.slow
def test_a_drain_that_meets_the_rebuild_of_one_is_waited_for_and_followed_by_all(lab: Lab) -> None:
    lab.form(UNIT_BACKOFF_SECONDS="0", UNIT_DEREGISTER_SECONDS=0.1)
    lab.agents[1].kill()
    lab.agents[1].code()
    with ordered(lab, "drain", "--wait") as order:
        lab.until(lambda: "asked Unit lab to drain" in order.said, "the order is given")
        lab.rebuild(1)
        order.succeeds(30)
    assert lab.codes() == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_drain_among_many_failures_is_never_lost(make_lab: MakeLab) -> None:
    """Strikes come until all have left, so the order meets whatever step of a restart there is."""
    lab = make_lab(2)
    for unit in range(UNITS):
        before = max(lab.generations(), default=0)
        lab.start_all(UNIT_BACKOFF_SECONDS="0", UNIT_MAX_RESTARTS=1000, UNIT_DEREGISTER_SECONDS=0.1)
        lab.begun(lab.wait_ready(above=before)["generation"])
        with ordered(lab, "drain") as order:
            lab.until(lambda rank=unit % 2: struck_until_gone(lab, rank), "all have left")  # type: ignore[misc]
            order.succeeds()
        assert lab.codes() == [0, 0], lab.story()


def struck_until_gone(lab: Lab, rank: int) -> bool:
    """Strike a rank's workload if there is one; whether all agents have ended."""
    for life in lab.watcher.alive():
        if life.main and life.rank == rank:
            with contextlib.suppress(ProcessLookupError):
                os.kill(life.pid, signal.SIGKILL)
    return not any(box.running for box in lab.agents.values())


def test_an_order_to_restart_at_the_barrier_is_waited_for_until_the_unit_serves(lab: Lab) -> None:
    for host in (0, 1):
        lab.start(host)
    lab.until(
        lambda: all(lab.agents[host].said("at the barrier of generation") for host in (0, 1)),
        "two stand at the barrier",
    )
    with ordered(lab, "restart", "--wait") as order:
        lab.until(lambda: "asked Unit lab to restart" in order.said, "the order is given")
        lab.start(2)
        generation = lab.wait_ready()["generation"]
        order.succeeds(20)
    lab.begun(generation)
    throughout(lambda: lab.generations() == [generation], "restarted for an order that was fulfilled", 1.0)
