"""The pods of ``leaderworkerset.yaml``, started as the kubelet would: user, rights, volumes, init container.

The engine stands in for the kubelet, and the environment is what the controller adds. The image has neither
Python nor the user, and only what the manifest mounts can be written to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.engine import BARE, BUNDLE, ROOT, Engine, fresh

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
MANIFEST = ROOT / "docker" / "kubernetes" / "leaderworkerset.yaml"
PROGRAM = "/opt/unitagent/unitagent"
LEADER = "inference-0.inference.default"
# What only an engine for GPUs could do.
REPLACED = {"UNIT_FRAMEWORK": "none", "UNIT_REVISION": "1"}


@dataclass(frozen=True, slots=True)
class Kubelet:
    """Starts pods; ``folder`` holds their volumes."""

    engine: Engine
    folder: Path
    network: str

    def start(self, spec: dict[str, Any], rank: int) -> str:
        volumes = {
            volume["name"]: self._volume(volume, rank, spec["securityContext"]["fsGroup"])
            for volume in spec["volumes"]
        }
        for container in spec["initContainers"]:
            self.engine.docker(
                "run", "--rm", *self._options(spec, container, volumes), *_words(container, BUNDLE)
            )
        (container,) = spec["containers"]
        name = fresh()
        self.engine.undoing.append(("rm", "--force", "--volumes", name))
        alias = ("--network-alias", LEADER) if rank == 0 else ()
        place = {"LWS_LEADER_ADDRESS": LEADER, "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": str(rank)}
        options = [*self._options(spec, container, volumes), *_variables({**_stated(container), **place})]
        where = ["--network", self.network, *alias]
        image = _words(container | {"args": ["sleep", "1000"]}, BARE)
        self.engine.docker("run", "--detach", "--name", name, *where, *options, *image)
        return name

    def _volume(self, volume: dict[str, Any], rank: int, group: int) -> Path:
        """An ``emptyDir`` is everybody's; a secret belongs to the pod's group."""
        path = self.folder / f"{volume['name']}-{rank}"
        path.mkdir()
        path.chmod(0o777)
        if "secret" in volume:
            file = path / "unit-secret"
            file.write_text("the secret of this Unit")
            file.chmod(volume["secret"]["defaultMode"])
            os.chown(file, 0, group)
        return path

    def _options(
        self, spec: dict[str, Any], container: dict[str, Any], volumes: dict[str, Path]
    ) -> Iterator[str]:
        of_pod, own = spec["securityContext"], container["securityContext"]
        yield from ("--user", f"{of_pod['runAsUser']}:{of_pod['runAsGroup']}")
        yield from ("--group-add", str(of_pod["fsGroup"]), "--security-opt", "no-new-privileges")
        yield from (word for name in own["capabilities"]["drop"] for word in ("--cap-drop", name))
        if own["readOnlyRootFilesystem"]:
            yield "--read-only"
        for mount in container["volumeMounts"]:
            mode = ":ro" if mount.get("readOnly") else ""
            yield from ("--volume", f"{volumes[mount['name']]}:{mount['mountPath']}{mode}")


def _words(container: dict[str, Any], image: str) -> list[str]:
    words: list[str] = [*container["command"], *container.get("args", ())]
    return ["--entrypoint", words[0], image, *words[1:]]


def _stated(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]} | REPLACED


def _variables(environment: dict[str, str]) -> list[str]:
    return [word for name, text in environment.items() for word in ("--env", f"{name}={text}")]


@pytest.fixture
def kubelet(engine: Engine, tmp_path: Path) -> Kubelet:
    return Kubelet(engine, tmp_path, engine.network())


def test_the_pods_of_the_manifest_form_a_unit_and_restart_in_place(kubelet: Kubelet) -> None:
    group = next(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    spec, engine = group["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"], kubelet.engine
    pods = [kubelet.start(spec, rank) for rank in (1, 0)]
    worker, leader = pods

    def ready() -> None:
        for name in pods:
            engine.until(partial(engine.ready, name, PROGRAM))

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(engine.docker("exec", leader, PROGRAM, "status", "--json"))
        return found

    ready()
    before = status()
    pid = before["instances"][1]["pid"]
    engine.docker("exec", worker, "sh", "-c", f"kill -9 {pid}")
    engine.until(lambda: status()["generation"] > before["generation"])
    ready()
    assert status()["failure"]["rank"] == 1
    for name in pods:
        assert engine.docker("inspect", "--format", "{{.RestartCount}} {{.State.Running}}", name) == "0 true"
    grace = str(spec["terminationGracePeriodSeconds"])
    engine.docker("stop", "--time", grace, leader, worker)
    assert [engine.state(name)["ExitCode"] for name in pods] == [0, 0]
