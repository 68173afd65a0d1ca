"""A pod of each manifest, as its controller and the kubelet start it, knows who it is.

The environment is the manifest's own with what the controller adds, and host name and ``/etc/hosts`` are
those that the kubelet writes; the agent is asked by ``unitagent env``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from unitagent.operator.render.render_cli import render_manifest

KUBERNETES = Path(__file__).parents[2] / "docker" / "kubernetes"
RANK = 1
FILE = {
    "metadata": {"name": "inference", "instance": 2},
    "containers": [{"image": "your/engine:1", "port": 8000, "script": "serve"}],
    "unit": {"size": 2, "guard": True},
}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as its controller names it, and what it adds to the environment."""

    spec: dict[str, Any]
    host: str
    service: str
    added: dict[str, str]


def lws(group: dict[str, Any]) -> Pod:
    """Source: kubernetes-sigs/lws, pkg/utils/pod, AddLWSVariables."""
    template, name = group["spec"]["leaderWorkerTemplate"], group["metadata"]["name"]
    added = {
        "LWS_LEADER_ADDRESS": f"{name}-0.{name}.default",
        "LWS_GROUP_SIZE": str(template["size"]),
        "LWS_WORKER_INDEX": str(RANK),
    }
    return Pod(template["workerTemplate"]["spec"], f"{name}-0-{RANK}", name, added)


def stateful_set(found: dict[str, Any]) -> Pod:
    spec, name = found["spec"], found["metadata"]["name"]
    return Pod(spec["template"]["spec"], f"{name}-{RANK}", spec["serviceName"], {})


def jobset(found: dict[str, Any]) -> Pod:
    (job,), name = found["spec"]["replicatedJobs"], found["metadata"]["name"]
    host = f"{name}-{job['name']}-0-{RANK}"
    spec = job["template"]["spec"]["template"]["spec"]
    return Pod(spec, host, name, {"JOB_COMPLETION_INDEX": str(RANK)})


MAKES = {"LeaderWorkerSet": lws, "StatefulSet": stateful_set, "JobSet": jobset}
RENDERED = render_manifest("lws", json.dumps(FILE), "service.json")[0]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(KUBERNETES.glob("*.yaml"))}


def pod(text: str) -> Pod:
    (found,) = [one for one in yaml.safe_load_all(text) if one["kind"] in MAKES]
    return MAKES[found["kind"]](found)


def environment(one: Pod, secrets: Path) -> dict[str, str]:
    """As the kubelet has it: the labels' values come from the controller, the secret is a folder of files."""
    (container,) = one.spec["containers"]
    stated = {entry["name"]: entry.get("value", "revision-1") for entry in container["env"]}
    secrets.joinpath("unit-secret").write_text("the secret of this Unit")
    secrets.joinpath("redis-url").write_text("redis://:password@127.0.0.1:6379/0")
    return {
        "PATH": os.environ["PATH"],
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        **{name: text.replace("/etc/unit", str(secrets)) for name, text in stated.items()},
        **one.added,
    }


def resolved(one: Pod, folder: Path) -> dict[str, str]:
    hosts = folder / "hosts"
    domain = f"{one.host}.{one.service}.default.svc.cluster.local"
    hosts.write_text(f"127.0.0.1 localhost\n10.1.2.3 {domain} {one.host}\n")
    place = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "--uts", "sh", "-c", place, "sh", str(hosts), one.host]
    argv = [*inside, sys.executable, "-m", "unitagent", "env", "--format", "json", "--", "true"]
    ended = subprocess.run(
        argv, env=environment(one, folder), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return {name: found["value"] for name, found in json.loads(ended.stdout).items()}


@pytest.mark.root
@pytest.mark.parametrize("text", [*TEXTS.values(), RENDERED], ids=[*TEXTS, "rendered"])
def test_a_pod_knows_its_rank_its_size_and_where_its_leader_is(text: str, tmp_path: Path) -> None:
    one = pod(text)
    found = resolved(one, tmp_path)
    stated = environment(one, tmp_path)
    size = one.added.get("LWS_GROUP_SIZE") or stated["UNIT_SIZE"]
    assert (found["RANK_ID"], found["UNIT_SIZE"]) == (str(RANK), size)
    leader = one.added.get("LWS_LEADER_ADDRESS") or (
        f"{one.host.removesuffix(str(RANK))}0.{one.service}.default.svc.cluster.local"
    )
    assert found["MASTER_ADDRESS"] == leader
    assert leader.startswith(found["UNIT_ID"])
    assert found["UNIT_GUARD"] == "true"
    assert found["UNIT_REVISION"] == stated.get("UNIT_REVISION")
