"""``/readyz`` gives the same answer on every rank, the ones without the store's help included."""

from __future__ import annotations

from tests.network.conftest import MakeLab


def test_a_crash_without_the_store_is_known_to_those_who_are_not_its_neighbours(make_lab: MakeLab) -> None:
    """Of five, rank 2 asks ranks 0, 3 and 4: only rank 0, which asks all, can tell it of rank 1."""
    lab = make_lab(5)
    lab.form()
    lab.store.stop()
    lab.until(
        lambda: not any(lab.agents[host].status()["store"]["connected"] for host in range(5)),
        "the outage is noticed",
    )
    assert all(lab.agents[host].ready() for host in range(5))
    lab.strike(1)
    lab.until(lambda: not any(lab.agents[host].ready() for host in range(5)), "readiness is off everywhere")
    lab.store.start()
    lab.wait_ready(above=1)
