"""The image on a real engine: the agent is a good PID 1, and the engine hears the truth from it."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.docker.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ("python3", "-u", "-m", "http.server", "8000")
HEALTH = "http://127.0.0.1:8000/"
QUICK = ("--health-interval=1s", "--health-timeout=1s", "--health-retries=2", "--health-start-period=60s")
POLITE = ("sh", "-c", "trap 'echo goodbye; exit 0' TERM; echo hello; while :; do sleep 0.1; done")
ORPHANS = ("sh", "-c", "while :; do (setsid sh -c 'sleep 0.1; exit 3' & ); sleep 0.1; done")


def test_a_container_is_healthy_while_its_agent_is_alive(engine: Engine) -> None:
    name = engine.run(*QUICK, command=SERVE, UNIT_HEALTH_URL=HEALTH)
    engine.until(name, lambda: engine.health(name) == "healthy")
    engine.docker("kill", "--signal", "STOP", name)
    engine.until(name, lambda: engine.health(name) == "unhealthy")
    engine.docker("kill", "--signal", "CONT", name)
    engine.until(name, lambda: engine.health(name) == "healthy")


def test_stopping_a_container_lets_the_workload_finish_and_ends_with_0(engine: Engine) -> None:
    name = engine.run(command=POLITE)
    engine.until(name, lambda: "hello" in engine.docker("logs", name))
    engine.docker("stop", "--time", "60", name)
    assert engine.state(name)["ExitCode"] == 0
    assert "goodbye" in engine.docker("logs", name)


@pytest.mark.parametrize(
    ("command", "code"), [(("sh", "-c", "exit 3"), 3), (("sh", "-c", "kill -9 $$"), 137), (("nothing",), 127)]
)
def test_the_containers_code_is_the_workloads(engine: Engine, command: tuple[str, ...], code: int) -> None:
    assert engine.wait(engine.run(command=command)) == code


def test_a_wrong_option_ends_the_container_with_2(engine: Engine) -> None:
    name = engine.run(command=SERVE, UNIT_SIZE="none")
    assert engine.wait(name) == 2
    assert "UNIT_SIZE='none'" in engine.docker("logs", name)


def test_nobody_elses_children_become_zombies(engine: Engine) -> None:
    name = engine.run(command=ORPHANS)
    engine.until(name, lambda: engine.ready(name))
    # Fifty orphans on; one that ended in this very moment may still be seen.
    last = int(engine.docker("exec", name, "sh", "-c", "echo $$"))
    engine.until(name, lambda: int(engine.docker("exec", name, "sh", "-c", "echo $$")) > last + 150)
    states = engine.docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; :").splitlines()
    assert states
    assert len([state for state in states if state.rpartition(")")[2].split()[0] == "Z"]) <= 2


def test_it_needs_no_rights_no_user_and_no_writable_image(engine: Engine) -> None:
    name = engine.run(
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "4242:4242"),  # noqa: S108
        command=SERVE,
        UNIT_HEALTH_URL=HEALTH,
    )
    engine.until(name, lambda: engine.ready(name))


@pytest.mark.parametrize("rank", [0, 1])
def test_with_guard_the_loss_of_any_container_restarts_the_unit(engine: Engine, rank: int) -> None:
    network = f"unitagent-test-{uuid4().hex[:8]}"
    names = [f"{network}-{number}" for number in (0, 1)]
    engine.docker("network", "create", network)
    try:
        for number, name in enumerate(names):
            place = {"UNIT_SIZE": "2", "RANK_ID": str(number), "MASTER_ADDRESS": names[0]}
            rules = {"UNIT_GUARD": "true", "UNIT_SECRET": network, "UNIT_LEASE_SECONDS": "2"}
            engine.run("--network", network, command=SERVE, name=name, **place, **rules)
        engine.until(names[1], lambda: all(map(engine.ready, names)))
        engine.docker("kill", names[rank])
        engine.docker("start", names[rank])
        engine.until(names[1], lambda: all(map(engine.ready, names)) and generation(engine, names[0]) == 2)
        assert engine.state(names[1 - rank])["StartedAt"] < engine.state(names[rank])["StartedAt"]
        assert generation(engine, names[1]) == 2
    finally:
        engine.remove()
        engine.docker("network", "rm", network)


def generation(engine: Engine, name: str) -> int:
    seen = json.loads(engine.docker("exec", name, "unitagent", "status", "--json"))
    return int(seen["generation"])
