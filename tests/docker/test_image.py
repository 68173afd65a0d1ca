"""The image on a real engine: the agent is a good PID 1, and the engine hears the truth from it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

import pytest

from tests.docker.engine import BASE, BUNDLE, IMAGE, PATIENCE, Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = ("python3", "-u", "-m", "http.server", "8000")
HEALTH = "http://127.0.0.1:8000/"
QUICK = ("--health-interval=1s", "--health-timeout=1s", "--health-retries=2", "--health-start-period=60s")
POLITE = ("sh", "-c", "trap 'echo goodbye; exit 0' TERM; echo hello; while :; do sleep 0.1; done")
ORPHANS = ("sh", "-c", "while :; do (setsid sh -c 'sleep 0.1; exit 3' & ); sleep 0.1; done")


def test_a_container_is_healthy_while_its_agent_is_alive(engine: Engine) -> None:
    name = engine.run(*QUICK, command=SERVE, UNIT_HEALTH_URL=HEALTH)
    engine.until(lambda: engine.health(name) == "healthy")
    engine.docker("kill", "--signal", "STOP", name)
    engine.until(lambda: engine.health(name) == "unhealthy")
    engine.docker("kill", "--signal", "CONT", name)
    engine.until(lambda: engine.health(name) == "healthy")


def test_stopping_a_container_lets_the_workload_finish_and_ends_with_0(engine: Engine) -> None:
    name = engine.run(command=POLITE)
    engine.until(lambda: "hello" in engine.docker("logs", name))
    engine.docker("stop", "--time", "60", name)
    assert engine.state(name)["ExitCode"] == 0
    assert "goodbye" in engine.docker("logs", name)


def test_stopping_a_container_is_over_before_the_engine_loses_patience(engine: Engine) -> None:
    """A plain ``docker stop`` gives 10 s, less than UNIT_STOP_GRACE_SECONDS; then comes SIGKILL, and 137."""
    name = engine.run(command=SERVE, UNIT_HEALTH_URL=HEALTH, UNIT_TRAFFIC_PORT="8000")
    engine.until(lambda: engine.ready(name))
    began = time.monotonic()
    engine.docker("stop", name)
    assert time.monotonic() - began < 9
    assert engine.state(name)["ExitCode"] == 0


def test_the_agent_adds_little_to_an_image(engine: Engine) -> None:
    sizes = {
        name: int(engine.docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (BASE, IMAGE, BUNDLE)
    }
    assert sizes[IMAGE] - sizes[BASE] < 40e6
    assert sizes[BUNDLE] < 40e6


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
    engine.until(lambda: engine.ready(name))
    # Fifty orphans on; one that ended in this very moment may still be seen.
    last = int(engine.docker("exec", name, "sh", "-c", "echo $$"))
    engine.until(lambda: int(engine.docker("exec", name, "sh", "-c", "echo $$")) > last + 150)
    states = engine.docker("exec", name, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; :").splitlines()
    assert states
    assert len([state for state in states if state.rpartition(")")[2].split()[0] == "Z"]) <= 2


def test_it_needs_no_rights_no_user_and_no_writable_image(engine: Engine) -> None:
    name = engine.run(
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "4242:4242"),  # noqa: S108
        *("--security-opt", "no-new-privileges"),
        command=SERVE,
        UNIT_HEALTH_URL=HEALTH,
    )
    engine.until(lambda: engine.ready(name))


def test_somebody_at_a_terminal_speaks_with_the_workload(engine: Engine) -> None:
    """``docker run -it``: keys reach it, Ctrl-C too, and the container's code is its own."""
    words = [
        "run",
        "--interactive",
        "--tty",
        "--rm",
        "--env",
        "UNIT_SIZE=1",
        "--env",
        "RANK_ID=0",
        IMAGE,
        "sh",
    ]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["docker", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=engine.environment
    ) as run:
        os.close(theirs)
        try:
            # Said by who is to be interrupted: between two commands the shell itself is in the foreground.
            os.write(ours, b"tty; sh -c 'echo $((20 + 1)) here; exec sleep 1000'\n")
            said = read_until(ours, "21 here")
            assert "/dev/pts/0" in said
            os.write(ours, b"\x03")
            os.write(ours, b"echo code $?\n")
            read_until(ours, "code 130")
            os.write(ours, b"exit 7\n")
            assert run.wait(PATIENCE) == 7
        finally:
            run.kill()


def read_until(terminal: int, wanted: str) -> str:
    said = ""
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, said
        said += os.read(terminal, 65536).decode(errors="replace")
    return said
