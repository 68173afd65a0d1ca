"""``docker/swarm/`` as it stands, and what ``render swarm`` makes, on a Swarm of one node.

HAProxy is reached at its task's own address: a service's virtual address needs IPVS in the kernel.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import BARE, IMAGE, ROOT, Engine, fresh
from tests.docker.project import told
from unitagent.operator.render.render_cli import render_manifest

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

HAPROXY = "unitagent-test-haproxy"
DOCKERFILE = f"""\
FROM {BARE}
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
SIZE = 2
SETTINGS = {"UNIT_IMAGE": IMAGE, "REDIS_IMAGE": BARE, "HAPROXY_IMAGE": HAPROXY, "UNIT_SIZE": str(SIZE)}
GET = "import urllib.request; print(urllib.request.urlopen('http://tasks.traffic:8000/').headers['X-Unit'])"
ENGINE = ["python3", "/src/tests/traffic/programs/engine.py", "0.0.0.0", "8000"]
SOURCE = {"type": "bind", "source": str(ROOT), "target": "/src", "read_only": True}
ODD = "$B {{.Task.Name}} {{x}}"
FILE = {
    "metadata": {"name": "odd", "instance": 1, "shm_size": 1, "memory": 500},
    "containers": [
        {"image": IMAGE, "script": "sh -c 'exec sleep 1000'", "env": [{"name": "ODD", "value": ODD}]}
    ],
    "unit": {"size": SIZE, "guard": True},
}


@dataclass(frozen=True, slots=True)
class Swarm:
    """A Swarm with the stack of ``traffic.yaml``.

    Attributes:
        folder: where files of the tests' own may be put.
        name: of that stack, and of the network.

    """

    engine: Engine
    folder: Path
    name: str

    def deploy(self, name: str, *files: Path, **variables: str) -> None:
        """Create a stack, or update it."""
        given = [word for file in files for word in ("--compose-file", str(file))]
        words = ["docker", "stack", "deploy", "--resolve-image", "never", *given, name]
        settings = self.engine.environment | SETTINGS | {"UNITS_NETWORK": self.name} | variables
        done = subprocess.run(words, env=settings, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def unit(self, name: str, revision: str = "1", **changes: Any) -> None:
        """Create or update a Unit's stack, of an engine that answers with its Unit's name."""
        changed = self.folder / f"{name}.json"
        service = {"command": ENGINE, "volumes": [SOURCE], **changes}
        changed.write_text(json.dumps({"version": "3.9", "services": {"unit": service}}))
        self.deploy(name, self.folder / "swarm" / "unit.yaml", changed, REVISION=revision)

    def tasks(self, service: str) -> list[str]:
        """The containers of a service's tasks, in the order of ranks; fewer while some are missing."""
        named = ("--filter", f"label=com.docker.swarm.service.name={service}", "--format", "{{.Names}}")
        return sorted(self.engine.docker("ps", *named).split())

    def serving(self, service: str, instead_of: tuple[str, ...] = ()) -> list[str]:
        """Wait until a whole Unit serves that has none of these tasks; its tasks."""

        def replaced() -> bool:
            tasks = self.tasks(service)
            anew = len(tasks) == SIZE and not set(tasks) & set(instead_of)
            return anew and all(map(self.engine.ready, tasks))

        self.engine.until(replaced, patience=200)
        return self.tasks(service)

    def replicas(self, service: str) -> str:
        """How many tasks run, as the engine counts."""
        listed = self.engine.docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}").splitlines()
        return dict(line.split(" ", 1) for line in listed).get(service, "")


@pytest.fixture(scope="module")
def swarm(engine: Engine, manifests: Path) -> Iterator[Swarm]:
    """A Swarm of its own, with Redis and HAProxy; every stack ends with it."""
    argv = ["docker", "build", "--network", "none", "--tag", HAPROXY, "-"]
    subprocess.run(
        argv, input=DOCKERFILE, env=engine.environment, text=True, check=True, capture_output=True, timeout=60
    )
    if engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        pytest.skip("the engine is in a Swarm that is not ours")
    engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    here = Swarm(engine, manifests, fresh())
    try:
        here.deploy(here.name, manifests / "swarm" / "traffic.yaml")
        yield here
    finally:
        stacks = engine.docker("stack", "ls", "--format", "{{.Name}}").split()
        engine.docker("stack", "rm", *stacks, code=None)
        engine.docker("swarm", "leave", "--force")


@pytest.fixture
def unit(swarm: Swarm) -> Iterator[str]:
    """A Unit that serves; the name of its stack."""
    name = fresh()
    swarm.unit(name)
    swarm.serving(f"{name}_unit")
    yield name
    remove(swarm, name)


def remove(swarm: Swarm, stack: str) -> None:
    swarm.engine.docker("stack", "rm", stack, code=None)
    swarm.engine.until(lambda: not swarm.tasks(f"{stack}_unit"))


def answers(swarm: Swarm, asking: str) -> str:
    """The Unit that answers a request to HAProxy; empty for none."""
    said = swarm.engine.docker("exec", asking, "python3", "-c", GET, code=None).split()
    return said[0] if len(said) <= SIZE else ""


def test_each_task_is_a_rank_and_traffic_goes_to_rank_0(engine: Engine, swarm: Swarm, unit: str) -> None:
    tasks = swarm.tasks(f"{unit}_unit")
    for rank, name in enumerate(tasks):
        said = engine.docker("exec", name, "sh", "-c", "cat /etc/hostname")
        assert engine.status(name)["instances"][rank]["hostname"] == said
    # Asked again: HAProxy takes a server that was just resolved for up until its first check.
    engine.until(lambda: answers(swarm, tasks[1]) == f"{unit}_unit")
    assert "size=1048576k" in engine.docker("exec", tasks[0], "grep", "/dev/shm", "/proc/mounts")  # noqa: S108


def test_a_second_stack_takes_over_without_a_dropped_request(engine: Engine, swarm: Swarm, unit: str) -> None:
    old, new = unit, fresh()
    engine.until(lambda: answers(swarm, swarm.tasks(f"{old}_unit")[1]) == f"{old}_unit")
    client = engine.run(
        *("--network", swarm.name, "--volume", f"{ROOT}:/src:ro", "--workdir", "/src"),
        *("--entrypoint", "python3"),
        command=("-m", "tests.traffic.client", "tasks.traffic", "8000"),
    )
    swarm.unit(new)
    # Counted by Swarm when they serve, and by HAProxy a moment later.
    engine.until(lambda: swarm.replicas(f"{new}_unit") == f"{SIZE}/{SIZE}")
    assert all(map(engine.ready, swarm.tasks(f"{new}_unit")))
    engine.until(lambda: answers(swarm, client) == f"{new}_unit")
    remove(swarm, old)
    engine.docker("stop", "--time", "60", client)
    said = json.loads(engine.docker("logs", client).splitlines()[-1])
    assert said["failed"] == [], engine.said()
    assert set(said["answered"]) == {f"{old}_unit", f"{new}_unit"}
    remove(swarm, new)


def test_an_update_replaces_all_tasks_at_once(engine: Engine, swarm: Swarm, unit: str) -> None:
    old = swarm.tasks(f"{unit}_unit")
    generation = engine.generation(old[0])
    swarm.unit(unit, "2")
    new = swarm.serving(f"{unit}_unit", tuple(old))
    assert [engine.generation(name) for name in new] == [generation + 1] * SIZE
    assert [engine.wait(name) for name in old] == [0] * SIZE


def test_an_update_that_cannot_start_brings_the_former_tasks_back(
    engine: Engine, swarm: Swarm, unit: str
) -> None:
    """Its agents live on for much longer than Swarm watches, restarting what ends at once."""
    service = f"{unit}_unit"
    old = swarm.tasks(service)
    few = {"UNIT_MAX_RESTARTS": "2", "UNIT_BACKOFF_SECONDS": "10"}
    watched = {"update_config": {"monitor": "1s"}}
    broken = ["sh", "-c", "echo no model; exit 1"]
    swarm.unit(unit, "2", command=broken, environment=few, deploy=watched)
    state = ("service", "inspect", "--format", "{{.UpdateStatus.State}}", service)
    engine.until(lambda: engine.docker(*state) == "rollback_completed", patience=300)
    new = swarm.serving(service, tuple(old))
    assert engine.docker("exec", new[0], "printenv", "UNIT_REVISION") == "1"


def test_a_new_task_waits_for_the_rank_that_an_old_one_holds(engine: Engine, swarm: Swarm, unit: str) -> None:
    """Without the health check Swarm does not wait for the new one either, and stops the old one."""
    old = swarm.tasks(f"{unit}_unit")
    generation = engine.generation(old[0])
    overlapping = ("--no-healthcheck", "--update-order", "start-first", "--force")
    engine.docker("service", "update", "--detach", *overlapping, f"{unit}_unit")
    new = swarm.serving(f"{unit}_unit", tuple(old))
    assert [engine.generation(name) for name in new] == [generation + 1] * SIZE
    assert [engine.wait(name) for name in old] == [0] * SIZE
    for rank, name in enumerate(new):
        said = engine.docker("logs", name)
        assert f"rank {rank} of Unit {unit}_unit is held by another instance" in said


def test_a_service_file_becomes_a_stack_that_serves(engine: Engine, swarm: Swarm, tmp_path: Path) -> None:
    name, file, images = fresh(), tmp_path / "stack.yaml", tmp_path / "images.json"
    text = render_manifest("swarm", json.dumps(FILE), "service.json")[0]
    file.write_text(text)
    images.write_text(json.dumps({"version": "3.9", "services": {"redis": {"image": BARE}}}))
    subprocess.run(["sh", "-euc", told(text)], cwd=tmp_path, check=True)
    swarm.deploy(name, file, images)
    tasks = swarm.serving(f"{name}_odd-0")
    assert [engine.docker("exec", task, "printenv", "ODD") for task in tasks] == [ODD] * SIZE
    status = engine.status(tasks[1])
    assert (status["unit"], status["size"]) == ("odd-0", SIZE)
    engine.docker("stack", "rm", name)
