"""What Docker does to containers of a Unit, and what becomes of it.

With guard any fault makes one new generation; without, only one of rank 0 does.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ("python3", "-u", "-m", "http.server", "8000")
EATER = ("sh", "-c", "[ $UNIT_GENERATION = 1 ] && exec python3 -c 'len(bytes([1]) * 10**9)'; exec sleep 1000")
LEASE = 4.0  # seconds; a container is back within two or three, also on a busy machine
RULES = {
    "UNIT_LEASE_SECONDS": str(LEASE),
    "UNIT_HEARTBEAT_SECONDS": "0.5",
    "UNIT_SECRET": "quiet as can be, all of us",
}
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


@contextmanager
def endings(engine: Engine, name: str) -> Iterator[list[int]]:
    """The codes with which a container has ended in the block, once that is over."""
    codes: list[int] = []
    since = engine.docker("info", "--format", "{{.SystemTime}}")
    filters = ("--since", since, "--filter", f"container={name}", "--filter", "event=die")
    shown = ("--format", "{{.Actor.Attributes.exitCode}}")
    # Followed, since the engine remembers few events, and each question to a container is three.
    with subprocess.Popen(
        ["docker", "events", *filters, *shown], env=engine.environment, stdout=subprocess.PIPE, text=True
    ) as following:
        yield codes
        following.terminate()
        codes += map(int, following.communicate()[0].split())


def lives(engine: Engine, name: str) -> list[tuple[str, int]]:
    """Agent and workload of each rank."""
    return [(one["incarnation"], one["pid"]) for one in engine.status(name)["instances"]]


@each
@guarded
def test_a_container_that_is_killed_comes_back(engine: Engine, rank: int, guard: bool) -> None:
    """With guard the other restarts in place; without, rank 0 takes its container along, rank 1 nobody."""
    names = unit(engine, guard=guard)
    other, before = 1 - rank, lives(engine, names[0])
    with endings(engine, names[other]) as codes:
        engine.docker("kill", names[rank])
        engine.docker("start", names[rank])
        again(engine, names, 2 if guard or rank == 0 else 1)
    assert codes == ([75] if not guard and rank == 0 else [])
    touched(before[other], lives(engine, names[0])[other], agent=bool(codes), workload=guard or rank == 0)
    if guard:
        failure = engine.status(names[other])["failure"]
        assert failure["rank"] == rank
        assert failure["reason"] in {"lost", "replaced"}


@each
@guarded
def test_a_container_that_is_restarted_comes_back(engine: Engine, rank: int, guard: bool) -> None:
    """Rank 0, or with guard any, drains the Unit: no other container ends for it, and it is no failure."""
    names = unit(engine, guard=guard)
    other, before = 1 - rank, lives(engine, names[0])
    with endings(engine, names[other]) as codes:
        engine.docker("restart", "--time", "30", names[rank])
        again(engine, names, 2 if guard or rank == 0 else 1)
    assert codes == []
    touched(before[other], lives(engine, names[0])[other], agent=False, workload=guard or rank == 0)
    assert engine.status(names[other])["failure"] is None


def touched(before: tuple[str, int], after: tuple[str, int], *, agent: bool, workload: bool) -> None:
    """Whether these are others than before; in another container the same number may be another process."""
    assert (after[0] != before[0]) == agent
    assert (after != before) == workload


@each
def test_a_container_that_is_paused_is_lost_and_returns(engine: Engine, rank: int) -> None:
    names = unit(engine, guard=True)
    engine.docker("pause", names[rank])
    engine.until(lambda: not works(engine, names[1 - rank]))
    engine.docker("unpause", names[rank])
    again(engine, names, 2)


@each
def test_a_interface_that_is_unplugged_stops_the_unit_until_it_is_back(engine: Engine, rank: int) -> None:
    """The card of ``COMM_IFNAME``, of two."""
    traffic, cards = engine.network(), engine.network("--internal")
    names = two_cards(engine, traffic, cards)
    engine.docker("network", "disconnect", cards, names[rank])
    engine.until(lambda: not any(works(engine, name) for name in names))
    engine.docker("network", "connect", "--alias", f"card-{rank}", cards, names[rank])
    again(engine, names, 2)


def test_a_interface_of_traffic_that_is_unplugged_disturbs_nobody(engine: Engine) -> None:
    traffic, cards = engine.network(), engine.network("--internal")
    names = two_cards(engine, traffic, cards)
    for name in names:
        engine.docker("network", "disconnect", traffic, name)
    # Two leases on.
    since = time.monotonic()
    engine.until(lambda: time.monotonic() > since + 2 * LEASE and all(map(engine.ready, names)))
    again(engine, names, 1)


def test_memory_that_runs_out_is_said_and_restarts_the_unit(engine: Engine) -> None:
    network = engine.network()
    names = [f"{network}-{rank}" for rank in range(2)]
    for rank, name in enumerate(names):
        limits = ("--network", network, "--memory", "256m", "--memory-swap", "256m")
        place = {"UNIT_SIZE": "2", "RANK_ID": str(rank), "MASTER_ADDRESS": names[0], "UNIT_GUARD": "true"}
        engine.run(*limits, command=EATER if rank == 1 else SERVE, name=name, **place, **RULES)
    again(engine, names, 2)
    for name in names:
        failure = engine.status(name)["failure"]
        assert (failure["rank"], failure["reason"]) == (1, "oom")
        assert engine.state(name)["Running"]
        assert engine.docker("inspect", "--format", "{{.RestartCount}}", name) == "0"


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
