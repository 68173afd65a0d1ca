"""A rank has another secret: nothing starts that the next outage would end, and both sides say why."""

from __future__ import annotations

import pytest

from tests.network.conftest import MakeLab

OURS, OTHER = "the secret of this Unit", "the secret of last month"


@pytest.mark.slow
@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("secret", [OTHER, None])
def test_a_rank_with_another_secret_is_named_and_nothing_starts(
    make_lab: MakeLab, secret: str | None, odd: int
) -> None:
    lab = make_lab(2)
    for host in (0, 1):
        lab.start(host, UNIT_SECRET=secret if host == odd else OURS)
    for host, other in ((0, 1), (1, 0)):
        sentence = (f"rank {other}", f"has another UNIT_SECRET than rank {host}")
        lab.until(
            lambda box=lab.agents[host], words=sentence: box.said("waiting for", *words),  # type: ignore[misc]
            f"{sentence} on host{host}",
            25,
        )
    assert not lab.watcher.lives()
    lab.agents[odd].kill()
    lab.agents[odd].code()
    lab.start(odd, UNIT_SECRET=OURS)
    generation = lab.wait_ready()["generation"]
    lab.begun(generation)
    assert lab.generations() == [generation]
