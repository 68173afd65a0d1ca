"""A store that comes back as it was long ago: who is only remembered by it fences nobody, nobody restarts,
and no poll of ``/readyz`` sees it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.network.conftest import MakeLab
from tests.network.lab import Lab
from tests.network.platform import Platform
from tests.network.polling import Polled

LEASE = 5.0
TAKEOVER = LEASE + 2  # after so long a newcomer takes the rank of a silent holder
LATER = TAKEOVER + 2  # seconds to look on


def mains(lab: Lab) -> set[int]:
    """The pids of the workloads that run."""
    return {life.pid for life in lab.watcher.alive() if life.main}


def forget(lab: Lab) -> None:
    """The store comes back as it was when it was saved last, or empty."""
    lab.store.restart()


def wipe(lab: Lab) -> None:
    lab.store.client.flushall()


def served_on(lab: Lab, fault: Callable[[Lab], None]) -> None:
    """Hold that nobody sees a store's return: the same workloads, in the same generation, always ready."""
    generation = lab.agents[0].status()["generation"]
    lab.begun(generation)
    before, agents = mains(lab), dict(lab.agents)
    with Polled(lab) as polled:
        fault(lab)
        lab.hold(
            lambda: lab.agents == agents and all(box.running for box in agents.values()),
            "somebody has ended",
            LATER,
        )
    assert polled.odd == []
    assert mains(lab) == before
    assert {lab.agents[host].status()["generation"] for host in range(lab.size)} == {generation}


def rebuild(lab: Lab, host: int) -> None:
    """Kill a container and build it anew; returns when the Unit serves again."""
    generation = lab.agents[0].status()["generation"]
    lab.agents[host].kill()
    lab.agents[host].code()
    lab.rebuild(host)
    lab.wait_ready(above=generation)


def save(lab: Lab) -> None:
    lab.store.client.save()


@pytest.mark.slow
@pytest.mark.parametrize("host", [0, 1])
def test_a_store_older_than_two_rebuilds_of_a_rank_disturbs_nobody(lab: Lab, host: int) -> None:
    lab.form(UNIT_BACKOFF_SECONDS="0")
    save(lab)
    rebuild(lab, host)
    rebuild(lab, host)
    served_on(lab, forget)


@pytest.mark.slow
def test_a_store_older_than_two_rebuilds_of_all_disturbs_nobody(lab: Lab) -> None:
    lab.form(UNIT_RESTART="recreate", UNIT_BACKOFF_SECONDS="0")
    save(lab)
    with Platform(lab) as platform:
        for rank in (1, 0):
            generation = lab.agents[0].status()["generation"]
            lab.strike(rank)
            lab.wait_ready(above=generation)
        rebuilt = {host: [75, 75] for host in range(lab.size)}
        lab.until(lambda: platform.codes == rebuilt, "every container was rebuilt twice")
        served_on(lab, forget)
        assert platform.codes == rebuilt


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, "auto"])
@pytest.mark.parametrize("fault", [forget, wipe])
def test_a_newcomer_goes_on_waiting_for_a_held_rank(
    make_lab: MakeLab, fault: Callable[[Lab], None], rank: object
) -> None:
    """The store shows a former holder of the rank, or none: the one that lives has time to write again."""
    lab = make_lab(3, spare=1)
    lab.form(UNIT_BACKOFF_SECONDS="0")
    save(lab)
    rebuild(lab, 1)
    rebuild(lab, 1)
    newcomer = lab.start(3, RANK_ID=rank)
    waits = "is held by another instance" if rank == 1 else "waiting for a free rank"
    lab.until(lambda: newcomer.said(waits), "the newcomer waits")
    served_on(lab, fault)
    assert newcomer.running
    assert not newcomer.said("joined Unit lab")
    generation = lab.agents[0].status()["generation"]
    lab.agents[1].kill()
    lab.wait_ready(above=generation, hosts=(0, 2, 3))
    assert lab.agents[0].status()["instances"][1]["hostname"] == "host3"
