"""``docker/swarm.yaml`` as it stands, on a Swarm of one node: a task for each rank, and updates.

HAProxy is reached at its task's own address: a service's virtual address needs IPVS in the kernel.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.engine import BARE, IMAGE, Engine, fresh

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

HAPROXY = "unitagent-test-haproxy"
DOCKERFILE = f"""\
FROM {BARE}
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
SIZE = 2
SETTINGS = {"UNIT_IMAGE": IMAGE, "REDIS_IMAGE": BARE, "HAPROXY_IMAGE": HAPROXY, "UNIT_SIZE": str(SIZE)}
GET = "import urllib.request; print(urllib.request.urlopen('http://tasks.traffic:8000/?asked').status)"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack of its own name."""

    engine: Engine
    file: Path
    name: str

    def deploy(self, revision: str) -> None:
        """Create the stack, or update it."""
        words = ["docker", "stack", "deploy", "--resolve-image", "never", "--compose-file", str(self.file)]
        variables = self.engine.environment | SETTINGS | {"REVISION": revision}
        subprocess.run([*words, self.name], env=variables, check=True, capture_output=True, timeout=60)

    def tasks(self) -> list[str]:
        """The containers of the Unit's tasks, in the order of ranks; fewer while some are missing."""
        named = (
            "--filter",
            f"label=com.docker.swarm.service.name={self.name}_unit",
            "--format",
            "{{.Names}}",
        )
        return sorted(self.engine.docker("ps", *named).split())

    def serving(self, instead_of: list[str]) -> list[str]:
        """Wait until a whole Unit serves that has none of these tasks; its tasks."""

        def replaced() -> bool:
            tasks = self.tasks()
            anew = len(tasks) == SIZE and not set(tasks) & set(instead_of)
            return anew and all(map(self.engine.ready, tasks))

        self.engine.until(replaced)
        return self.tasks()


@pytest.fixture(scope="module")
def stack(engine: Engine, manifests: Path) -> Iterator[Stack]:
    """The stack, deployed on a Swarm of its own."""
    argv = ["docker", "build", "--network", "none", "--tag", HAPROXY, "-"]
    subprocess.run(
        argv, input=DOCKERFILE, env=engine.environment, text=True, check=True, capture_output=True, timeout=60
    )
    if engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        pytest.skip("the engine is in a Swarm that is not ours")
    engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    here = Stack(engine, manifests / "swarm.yaml", fresh())
    try:
        here.deploy("1")
        yield here
        engine.docker("stack", "rm", here.name)
    finally:
        engine.docker("swarm", "leave", "--force")


def test_each_task_is_a_rank_and_traffic_goes_to_rank_0(engine: Engine, stack: Stack) -> None:
    tasks = stack.serving([])
    for rank, name in enumerate(tasks):
        said = engine.docker("exec", name, "sh", "-c", "cat /etc/hostname")
        assert engine.status(name)["instances"][rank]["hostname"] == said

    def answered() -> bool:
        """Asked again: HAProxy takes a server that was just resolved for up until its first check."""
        engine.docker("exec", tasks[1], "python3", "-c", GET, code=None)
        return '"GET /?asked HTTP/1.1" 200' in engine.docker("logs", tasks[0])

    engine.until(answered)


def test_an_update_replaces_all_tasks_at_once(engine: Engine, stack: Stack) -> None:
    old = stack.serving([])
    generation = engine.generation(old[0])
    stack.deploy("2")
    new = stack.serving(old)
    assert [engine.generation(name) for name in new] == [generation + 1] * SIZE
    assert [engine.wait(name) for name in old] == [0] * SIZE


def test_a_new_task_waits_for_the_rank_that_an_old_one_holds(engine: Engine, stack: Stack) -> None:
    old = stack.serving([])
    generation = engine.generation(old[0])
    engine.docker(
        "service", "update", "--detach", "--force", "--update-order", "start-first", f"{stack.name}_unit"
    )
    new = stack.serving(old)
    assert [engine.generation(name) for name in new] == [generation + 1] * SIZE
    assert [engine.wait(name) for name in old] == [0] * SIZE
    for rank, name in enumerate(new):
        assert f"rank {rank} of Unit {stack.name}_unit is held by another instance" in engine.docker(
            "logs", name
        )
