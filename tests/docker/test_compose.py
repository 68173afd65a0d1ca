"""``docker/compose.yaml`` as it stands: two Units on one Redis, one with ranks given and one scaled."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine import BARE, IMAGE, Engine
from tests.docker.project import Project

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SIZE = 3
SETTINGS = {"UNIT_IMAGE": IMAGE, "REDIS_IMAGE": BARE, "SCALED_SIZE": str(SIZE)}


@pytest.fixture
def project(engine: Engine, manifests: Path) -> Iterator[Project]:
    """The project, up."""
    here = Project(engine, manifests / "compose.yaml", SETTINGS)
    try:
        here.compose("up", "--detach", "--scale", f"scaled={SIZE}")
        yield here
    finally:
        here.compose("down", "--timeout", "30")


def test_two_units_come_up_and_go_down(engine: Engine, project: Project) -> None:
    explicit = [*project.containers("rank-0"), *project.containers("rank-1")]
    scaled = project.containers("scaled")
    for name in (*explicit, *scaled):
        engine.until(partial(engine.ready, name))
    # Given ranks, and ranks that the store gave out: each exactly once.
    assert [own_rank(engine, name) for name in explicit] == [0, 1]
    assert {own_rank(engine, name) for name in scaled} == set(range(SIZE))
    # Of two cards it is the one of COMM_IFNAME that the instances meet by.
    cards = ipaddress.ip_network(
        engine.docker(
            "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", f"{project.name}_cards"
        )
    )
    for name in (explicit[0], scaled[0]):
        ips = [instance["ip"] for instance in engine.status(name)["instances"]]
        assert all(ipaddress.ip_address(ip) in cards for ip in ips)
    # A drained Unit is not started again, and the other goes on.
    engine.docker("exec", explicit[1], "unitagent", "drain")
    assert [engine.wait(name) for name in explicit] == [0, 0]
    assert all(map(partial(engine.ready), scaled))
    project.compose("stop")
    assert [engine.state(name)["ExitCode"] for name in (*explicit, *scaled)] == [0] * (2 + SIZE)
    assert [project.restarts(name) for name in (*explicit, *scaled)] == [0] * (2 + SIZE)


def test_a_spare_waits_and_takes_the_rank_that_another_one_leaves(engine: Engine, project: Project) -> None:
    first = project.containers("scaled")
    for name in first:
        engine.until(partial(engine.ready, name))
    project.compose("up", "--detach", "--scale", f"scaled={SIZE + 1}", "scaled")
    (spare,) = set(project.containers("scaled")) - set(first)
    engine.until(lambda: "waiting for a free rank" in engine.docker("logs", spare))
    gone = next(name for name in first if own_rank(engine, name) == 1)
    engine.docker("rm", "--force", "--volumes", gone)
    engine.until(lambda: own_rank(engine, spare) == 1)
    rest = [spare, *(name for name in first if name != gone)]
    engine.until(lambda: all(map(engine.ready, rest)))
    project.compose("down", "--timeout", "30")
    filters = ("--filter", f"label=com.docker.compose.project={project.name}")
    assert not engine.docker("ps", "--all", "--quiet", *filters)


def own_rank(engine: Engine, name: str) -> int | None:
    """The rank whose host is this container; None for none."""
    instances = engine.status(name)["instances"]
    mine = (one["rank"] for one in instances if one["hostname"] and name.startswith(one["hostname"]))
    return next(mine, None)
