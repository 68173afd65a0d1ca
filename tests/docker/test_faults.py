"""What Docker does to containers of a Unit, and what becomes of it.

With guard any fault makes one new generation; without, only one of rank 0 does.
"""

from __future__ import annotations

import time

import pytest

from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ("python3", "-u", "-m", "http.server", "8000")
EATER = ("sh", "-c", "[ $UNIT_GENERATION = 1 ] && exec python3 -c 'len(bytes([1]) * 10**9)'; exec sleep 1000")
LEASE = 2.0
RULES = {"UNIT_LEASE_SECONDS": str(LEASE), "UNIT_HEARTBEAT_SECONDS": "0.5", "UNIT_SECRET": "quiet"}
BOTH = {"guard": True, "no guard": False}
guarded = pytest.mark.parametrize("guard", BOTH.values(), ids=BOTH)
each = pytest.mark.parametrize("rank", [0, 1])


def start(engine: Engine, name: str, rank: int, network: str, **variables: str) -> None:
    # A killed container is started by the test; one whose agent exits with 75 by the engine.
    options = ("--network", network, "--restart", "on-failure")
    place = {"UNIT_SIZE": "2", "RANK_ID": str(rank)}
    engine.run(*options, command=SERVE, name=name, **(place | RULES | variables))


def unit(engine: Engine, *, guard: bool) -> list[str]:
    """Two containers that serve; their names in the order of ranks."""
    network = engine.network()
    names = [f"{network}-{rank}" for rank in range(2)]
    for rank, name in enumerate(names):
        start(engine, name, rank, network, MASTER_ADDRESS=names[0], UNIT_GUARD=str(guard).lower())
    engine.until(lambda: all(map(engine.ready, names)))
    return names


def again(engine: Engine, names: list[str], generation: int) -> None:
    """Wait until the whole Unit serves in this generation."""
    engine.until(lambda: all(map(engine.ready, names)) and engine.generation(names[0]) >= generation)
    assert [engine.generation(name) for name in names] == [generation] * len(names)


@each
@guarded
def test_a_container_that_is_killed_comes_back(engine: Engine, rank: int, guard: bool) -> None:
    names = unit(engine, guard=guard)
    engine.docker("kill", names[rank])
    engine.docker("start", names[rank])
    again(engine, names, 2 if guard or rank == 0 else 1)


@each
@guarded
def test_a_container_that_is_restarted_comes_back(engine: Engine, rank: int, guard: bool) -> None:
    names = unit(engine, guard=guard)
    engine.docker("restart", "--time", "30", names[rank])
    again(engine, names, 2 if guard or rank == 0 else 1)


@each
def test_a_container_that_is_paused_is_lost_and_returns(engine: Engine, rank: int) -> None:
    names = unit(engine, guard=True)
    engine.docker("pause", names[rank])
    engine.until(lambda: not works(engine, names[1 - rank]))
    engine.docker("unpause", names[rank])
    again(engine, names, 2)


@each
def test_a_card_that_is_unplugged_stops_the_unit_until_it_is_back(engine: Engine, rank: int) -> None:
    """The card of ``COMM_IFNAME``, of two."""
    traffic, cards = engine.network(), engine.network("--internal")
    names = two_cards(engine, traffic, cards)
    engine.docker("network", "disconnect", cards, names[rank])
    engine.until(lambda: not any(works(engine, name) for name in names))
    engine.docker("network", "connect", "--alias", f"card-{rank}", cards, names[rank])
    again(engine, names, 2)


def test_a_card_of_traffic_that_is_unplugged_disturbs_nobody(engine: Engine) -> None:
    traffic, cards = engine.network(), engine.network("--internal")
    names = two_cards(engine, traffic, cards)
    for name in names:
        engine.docker("network", "disconnect", traffic, name)
    # Two leases on.
    since = time.monotonic()
    engine.until(lambda: time.monotonic() > since + 2 * LEASE and all(map(engine.ready, names)))
    again(engine, names, 1)


def test_memory_that_runs_out_is_said_and_restarts_the_unit(engine: Engine) -> None:
    limits = ("--memory", "256m", "--memory-swap", "256m")
    name = engine.run(*limits, command=EATER, UNIT_GUARD="true", UNIT_BACKOFF_SECONDS="0")
    engine.until(lambda: engine.ready(name) and engine.generation(name) == 2)
    assert engine.status(name)["failure"]["reason"] == "oom"
    assert engine.state(name)["Running"]


def two_cards(engine: Engine, traffic: str, cards: str) -> list[str]:
    """A Unit whose containers have eth0 in ``traffic`` and eth1 in ``cards``."""
    names = [f"{cards}-{rank}" for rank in range(2)]
    for rank, name in enumerate(names):
        start(engine, name, rank, traffic, MASTER_ADDRESS="card-0", COMM_IFNAME="eth1", UNIT_GUARD="true")
        engine.docker("network", "connect", "--alias", f"card-{rank}", cards, name)
    engine.until(lambda: all(map(engine.ready, names)))
    return names


def works(engine: Engine, name: str) -> bool:
    """Whether the workload runs in a container."""
    return "python3" in engine.docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/comm; :").split()
