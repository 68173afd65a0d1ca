"""A pod on the host's network has the node's hostname, which is nobody's rank. Seen as in such a pod: a host
name and an ``/etc/hosts`` of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

HOST = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n10.0.0.3 {0}.cluster {0}\n"
POD = "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n10.1.2.3 {0}.web.ns.svc.cluster.local {0}\n"
IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "UNIT_SIZE": "4"}


def env(
    folder: Path, hostname: str, hosts: str, **environ: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, str | None]]:
    """What ``unitagent env`` finds there."""
    if os.geteuid():
        pytest.skip("needs root")
    file = folder / "hosts"
    file.write_text(hosts.format(hostname))
    place = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
    inside = ["unshare", "--mount", "--uts", "sh", "-c", place, "sh", str(file), hostname]
    done = subprocess.run(
        [*inside, sys.executable, "-m", "unitagent", "env", "--format", "json", "--", "true"],
        env={"PATH": os.environ["PATH"], "UNIT_REDIS_URL": "redis://h"} | IN_CLUSTER | environ,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    return done, {name: row["value"] for name, row in found.items()}


@pytest.mark.parametrize("hosts", [HOST, "127.0.0.1 localhost\n"])
def test_the_name_of_the_pod_goes_before_that_of_the_node(tmp_path: Path, hosts: str) -> None:
    done, found = env(tmp_path, "h100-3", hosts, POD_NAME="sglang-0")
    assert done.returncode == 0, done.stderr
    assert (found["RANK_ID"], found["UNIT_ID"], found["MASTER_ADDRESS"]) == ("0", "sglang", None)


@pytest.mark.parametrize(
    ("hostname", "hosts", "environ"),
    [
        ("h100-3", HOST, {}),
        ("h100-3", POD, {"NODE_NAME": "h100-3"}),
        ("h100-3", HOST, {"POD_NAME": "sglang-7d9f8b6c5-x2x4z"}),
        ("ip-10-0-12-7", "127.0.0.1 localhost\n", {}),
    ],
)
def test_the_name_of_a_node_is_nobodys_rank(
    tmp_path: Path, hostname: str, hosts: str, environ: dict[str, str]
) -> None:
    done, _ = env(tmp_path, hostname, hosts, **environ)
    assert done.returncode == 2
    assert "RANK_ID missing" in done.stderr
    assert ("POD_NAME from metadata.name" in done.stderr) == (not hostname.startswith("ip-"))


def test_the_label_of_a_pods_index_as_a_variable(tmp_path: Path) -> None:
    _, found = env(tmp_path, "h100-3", HOST, POD_INDEX="2", POD_NAME="sglang-2")
    assert (found["RANK_ID"], found["UNIT_ID"]) == ("2", "sglang")
    _, found = env(tmp_path, "h100-3", HOST, POD_INDEX="2")
    assert (found["RANK_ID"], found["UNIT_ID"]) == ("2", "unit")


def test_a_job_takes_no_name_and_no_leader_from_the_node(tmp_path: Path) -> None:
    _, found = env(tmp_path, "h100-3", HOST, JOB_COMPLETION_INDEX="3")
    assert (found["RANK_ID"], found["UNIT_ID"], found["MASTER_ADDRESS"]) == ("3", "unit", None)
    _, found = env(tmp_path, "h100-3", HOST, JOB_COMPLETION_INDEX="3", POD_NAME="train-3-x2x4z")
    assert (found["RANK_ID"], found["UNIT_ID"], found["MASTER_ADDRESS"]) == ("3", "train", None)


@pytest.mark.parametrize("environ", [{}, {"POD_NAME": "big-1"}])
def test_on_a_network_of_its_own_a_pod_finds_its_leader(tmp_path: Path, environ: dict[str, str]) -> None:
    _, found = env(tmp_path, "big-1", POD, **environ)
    assert (found["RANK_ID"], found["UNIT_ID"]) == ("1", "big")
    assert found["MASTER_ADDRESS"] == "big-0.web.ns.svc.cluster.local"
