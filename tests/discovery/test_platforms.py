"""Every platform with the exact variables that it sets."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.operator.command import run
from unitagent.discovery.kubernetes import RAY_PODS
from unitagent.discovery.platform_rules import Platform
from unitagent.discovery.platforms import TABLE, detect_platform, find_full_name
from unitagent.discovery.schedulers import first_host
from unitagent.errors import ConfigurationError

LWS = {"LWS_LEADER_ADDRESS": "big-3.big.prod", "LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "2"}
EAS = {"RANK_ID": "1", "COMM_IFNAME": "eth1", "RANK_IP": "10.1.1.2", "MASTER_ADDRESS": "10.1.1.1"}
RBG = {
    "RBG_LWP_LEADER_ADDRESS": "g-decode-0-0.g",
    "RBG_LWP_GROUP_SIZE": "2",
    "RBG_LWP_WORKER_INDEX": "1",
    "RBG_ROLE_INSTANCE_NAME": "g-decode-0",
}
KTHENA = {"ENTRY_ADDRESS": "ms-0-decode-0-0.ns", "GROUP_SIZE": "3", "WORKER_INDEX": "1"}
AIBRIX = {
    "PODSET_NAME": "s-rs-prefill-0",
    "STORM_SERVICE_NAME": "s",
    "POD_GROUP_INDEX": "1",
    "POD_GROUP_SIZE": "2",
}
GROVE = {
    "GROVE_PCSG_NAME": "app-0-sg",
    "GROVE_PCSG_INDEX": "1",
    "GROVE_PCSG_TEMPLATE_NUM_PODS": "3",
    "GROVE_HEADLESS_SERVICE": "app-0.ns.svc",
    "GROVE_PCLQ_NAME": "app-0-sg-1-wkr",
    "GROVE_PCLQ_POD_INDEX": "1",
}
TRAINER = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-node-0-0.job",
    "PET_MASTER_PORT": "29500",
    "JOB_COMPLETION_INDEX": "1",
}
PYTORCH_JOB = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "RANK": "1",
    "WORLD_SIZE": "16",
    "MASTER_ADDR": "pj-master-0",
    "MASTER_PORT": "23456",
}
JAX = {
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
    "JAX_COORDINATOR_ADDRESS": "job-node-0-0.job:1234",
    "JAX_COORDINATOR_PORT": "1234",
    "JOB_COMPLETION_INDEX": "1",
}
COMPONENTS = {"SLURM_JOB_NODELIST_HET_GROUP_0": "gpu1", "SLURM_JOB_NODELIST_HET_GROUP_1": "big1"}
VOLCANO = {"VC_TASK_INDEX": "1", "VC_WORKER_NUM": "2", "VC_WORKER_HOSTS": "j-worker-0.j,j-worker-1.j"}
VOLCANO_PYTORCH = {
    "VC_TASK_INDEX": "0",
    "VC_MASTER_NUM": "1",
    "VC_WORKER_NUM": "2",
    "RANK": "1",
    "WORLD_SIZE": "3",
    "MASTER_ADDR": "j-master-0.j",
    "MASTER_PORT": "23456",
}
BATCH = {
    "AWS_BATCH_JOB_ID": "8c1f#2",
    "AWS_BATCH_JOB_NODE_INDEX": "2",
    "AWS_BATCH_JOB_NUM_NODES": "4",
    "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
    "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.1",
}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "1",
    "SLURM_JOB_NUM_NODES": "8",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[07-09,11]",
    "SLURM_JOB_NODELIST": "gpu[01-16]",
}
NOMAD = {
    "NOMAD_ALLOC_ID": "a-b",
    "NOMAD_ALLOC_INDEX": "1",
    "NOMAD_JOB_ID": "llm/x",
    "NOMAD_GROUP_NAME": "gpu",
}

JOB = {"JOB_COMPLETION_INDEX": "0"}
SET = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
KUBERAY = {
    "RAY_CLUSTER_NAME": "ray",
    "RAY_IP": "ray-head-svc",
    "FQ_RAY_IP": "ray-head-svc.ns.svc.cluster.local",
    "RAY_ADDRESS": "ray-head-svc.ns.svc.cluster.local:6379",
}
OMPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "16", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
KSERVE = {"HEAD_SVC": "llama-head-1", "RAY_NODE_COUNT": "2", "REQUEST_GPU_COUNT": "1", "ISVC_NAME": "llama"}


def without(environ: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


TOLD = [
    ("LWS", LWS, "big-3-2", (2, 4, "big-3.big.prod", "big-3")),
    ("RBG", RBG, "p", (1, 2, "g-decode-0-0.g", "g-decode-0")),
    ("RBG", without(RBG, "RBG_ROLE_INSTANCE_NAME"), "p", (1, 2, "g-decode-0-0.g", "g-decode-0-0")),
    ("Kthena", KTHENA, "p", (1, 3, "ms-0-decode-0-0.ns", "ms-0-decode-0-0")),
    ("AIBrix", AIBRIX, "p", (1, 2, "s-rs-prefill-0-0.s", "s-rs-prefill-0")),
    ("AIBrix", without(AIBRIX, "STORM_SERVICE_NAME"), "p", (1, 2, None, "s-rs-prefill-0")),
    ("Grove", GROVE, "p", (2, 3, "app-0-sg-1-ldr-0.app-0.ns.svc", "app-0-sg-1")),
    (
        "Grove",
        GROVE | {"GROVE_PCLQ_NAME": "app-0-sg-1-ldr", "GROVE_PCLQ_POD_INDEX": "0"},
        "p",
        (0, 3, "app-0-sg-1-ldr-0.app-0.ns.svc", "app-0-sg-1"),
    ),
    (
        "Grove",
        {"GROVE_PCLQ_NAME": "app-0-w", "GROVE_PCLQ_POD_INDEX": "1", "GROVE_HEADLESS_SERVICE": "app-0"},
        "p",
        (1, None, "app-0-w-0.app-0", "app-0-w"),
    ),
    ("Kubeflow", TRAINER, "job-node-0-1", (1, 2, "job-node-0-0.job", "job")),
    ("Kubeflow", PYTORCH_JOB, "pj-worker-0", (1, 2, "pj-master-0", "pj")),
    ("Kubeflow", PYTORCH_JOB | {"PET_NNODES": "2:2"}, "p", (1, 2, "pj-master-0", "pj")),
    ("Kubeflow", JAX, "job-node-0-1", (1, 2, "job-node-0-0.job", "job")),
    ("Volcano", VOLCANO, "j-worker-1", (1, 2, "j-worker-0.j", "j-worker")),
    ("Volcano", {"VK_TASK_INDEX": "1", "VC_WORKER_NUM": "2"}, "p", (1, 2, None, None)),
    ("Volcano", VOLCANO_PYTORCH, "j-worker-0", (1, 3, "j-master-0.j", "j")),
    ("Job", {"JOB_COMPLETION_INDEX": "2"}, "js-w-0-2.js.ns.svc", (2, None, "js-w-0-0.js.ns.svc", "js-w-0")),
    ("Job", {"JOB_COMPLETION_INDEX": "2"}, "js-w-0-2", (2, None, None, "js-w-0")),
    ("Job", {"JOB_COMPLETION_INDEX": "2"}, "elsewhere", (2, None, None, None)),
    ("AWS Batch", BATCH, "p", (2, 4, "10.0.0.1", "8c1f")),
    ("AWS Batch", BATCH | {"AWS_BATCH_JOB_MAIN_NODE_INDEX": "3"}, "p", (2, 4, "10.0.0.1", "8c1f")),
    (
        "AWS Batch",
        BATCH | {"AWS_BATCH_JOB_MAIN_NODE_INDEX": "3", "AWS_BATCH_JOB_NODE_INDEX": "0"},
        "p",
        (3, 4, "10.0.0.1", "8c1f"),
    ),
    (
        "AWS Batch",
        without(BATCH, "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS")
        | {"AWS_BATCH_JOB_MAIN_NODE_INDEX": "2"},
        "p",
        (0, 4, None, "8c1f"),
    ),
    ("Slurm", SLURM, "gpu08", (1, 4, "gpu07", "slurm-77-0")),
    ("Slurm", SLURM | {"SLURM_NTASKS": "8", "SLURM_PROCID": "3"}, "gpu08", (3, 8, "gpu07", "slurm-77-0")),
    (
        "Slurm",
        {"SLURM_JOB_ID": "7", "SLURM_NODEID": "0", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "a,b"},
        "a",
        (0, 2, "a", "slurm-7"),
    ),
    ("Nomad", NOMAD, "p", (1, None, None, "llm-x-gpu")),
    ("Nomad", NOMAD | {"NOMAD_META_unit_size": "3"}, "p", (1, 3, None, "llm-x-gpu")),
    ("EAS", EAS, "p-1", (1, None, "10.1.1.1", None)),
    (
        "StatefulSet",
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        "web-3.svc.ns.svc.cluster.local",
        (3, None, "web-0.svc.ns.svc.cluster.local", "web"),
    ),
    ("StatefulSet", SET, "my-web-0", (0, None, None, "my-web")),
    ("KubeRay", KUBERAY, "ray-gpu-worker-xk2b7", (None, None, "ray-head-svc.ns.svc.cluster.local", "ray")),
    ("KubeRay", {"RAY_CLUSTER_NAME": "ray", "RAY_IP": "127.0.0.1"}, "ray-head", (None, None, None, "ray")),
    ("KServe InferenceService", KSERVE, "p", (None, 2, "llama-head-1", None)),
    ("KServe InferenceService", without(KSERVE, "HEAD_SVC"), "p", (None, 2, None, None)),
    ("KServe InferenceService", {"HEAD_SVC": "llama-head-1"}, "p", (None, None, "llama-head-1", None)),
    ("KServe InferenceService", {"WORKER_SVC": "w", "HEAD_SVC": "tcp://h"}, "p", (None, None, None, None)),
]


@pytest.mark.parametrize(("name", "environ", "hostname", "told"), TOLD)
def test_a_platform_tells_what_it_knows(
    name: str,
    environ: dict[str, str],
    hostname: str,
    told: tuple[int | None, int | None, str | None, str | None],
) -> None:
    found = detect_platform(environ, hostname)
    assert found is not None
    assert (found.name, found.rank, found.size, found.leader, found.unit) == (name, *told)


@pytest.mark.parametrize(
    ("environ", "hostname"),
    [
        ({}, "laptop"),
        ({}, "web-3"),
        ({"UNIT_SIZE": "2"}, "gpu-1"),  # a bare machine, or Compose's `hostname:`
        ({"UNIT_SIZE": "2"}, "app-engine-1"),  # a container of Compose, if it knew its name
        ({"UNIT_SIZE": "2"}, "3f2a9c1d7b60"),  # a container of Compose or a task of Swarm
        (OMPI, "node-1"),
        (SET, "web-03"),
        ({"REQUEST_GPU_COUNT": "1"}, "p"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "api-5d9c8b7f-24567"),
        (dict.fromkeys(LWS, ""), "big-3"),
        (without(KTHENA, "ENTRY_ADDRESS"), "p"),
        ({"ENTRY_ADDRESS": KTHENA["ENTRY_ADDRESS"]}, "p"),
        (without(JAX, "JOB_COMPLETION_INDEX") | {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}, "p"),
        ({"RANK": "1", "WORLD_SIZE": "16", "MASTER_ADDR": "a"}, "p"),
        (EAS | {"RANK_ID": "auto"}, "p"),
        (EAS | {"MASTER_ADDRESS": "rank0"}, "p"),  # Compose, by hand
        (EAS | {"COMM_IFNAME": "ens3"}, "p"),
        (without(EAS, "RANK_IP"), "p"),
        ({"RANK_ID": "0", "MASTER_ADDRESS": "rank0"}, "p"),
        ({"MASTER_ADDRESS": "a"}, "p"),
    ],
)
def test_nothing_is_guessed(environ: dict[str, str], hostname: str) -> None:
    assert detect_platform(environ, hostname) is None


def test_every_platform_has_a_row_in_its_readme() -> None:
    text = (Path(__file__).parents[2] / "docker" / "README.md").read_text()
    rows = text.partition("\n## Platforms\n")[2].partition("\n## ")[0]
    told = {name for name, *_ in TOLD}
    assert {rule.name for rule in (*TABLE, *RAY_PODS)} < told
    spelled = {
        "EAS": "PAI-EAS",
        "LWS": "LeaderWorkerSet",
        "AIBrix": "AIBrix PodSet",
        "Job": "JobSet, indexed Job",
    }
    for name in told:
        assert re.search(rf"^\| {spelled.get(name, name)}\b", rows, re.MULTILINE), name


def test_a_pod_may_be_known_by_its_service_account_alone() -> None:
    told = Platform("StatefulSet", 1, unit="web", notes=("hostname web-1",))
    assert detect_platform({}, "web-1", in_cluster=True) == told


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        (without(LWS, "LWS_WORKER_INDEX"), "LWS_WORKER_INDEX"),
        (without(LWS, "LWS_GROUP_SIZE"), "LWS_GROUP_SIZE"),
        (without(LWS, "LWS_LEADER_ADDRESS"), "LWS_LEADER_ADDRESS"),
        (LWS | {"LWS_GROUP_SIZE": ""}, "LWS_GROUP_SIZE"),
        (without(RBG, "RBG_LWP_WORKER_INDEX"), "RBG_LWP_WORKER_INDEX"),
        (without(KTHENA, "WORKER_INDEX"), "WORKER_INDEX"),
        (without(KTHENA, "GROUP_SIZE"), "GROUP_SIZE"),
        (without(AIBRIX, "POD_GROUP_SIZE"), "POD_GROUP_SIZE"),
        (without(GROVE, "GROVE_PCLQ_POD_INDEX"), "GROVE_PCLQ_POD_INDEX"),
        (without(GROVE, "GROVE_PCSG_TEMPLATE_NUM_PODS"), "GROVE_PCSG_TEMPLATE_NUM_PODS"),
        (without(TRAINER, "PET_NODE_RANK"), "PET_NODE_RANK"),
        (without(TRAINER, "PET_NNODES"), "PET_NNODES"),
        (without(JAX, "JAX_PROCESS_ID"), "JAX_PROCESS_ID"),
        (without(JAX, "JAX_NUM_PROCESSES"), "JAX_NUM_PROCESSES"),
        (without(BATCH, "AWS_BATCH_JOB_MAIN_NODE_INDEX"), "AWS_BATCH_JOB_MAIN_NODE_INDEX"),
        (
            without(BATCH, "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"),
            "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS",
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"}, "SLURM_NODEID"),
        ({"SLURM_JOB_ID": "7", "SLURM_NODEID": "0"}, "SLURM_JOB_NUM_NODES"),
        (without(NOMAD, "NOMAD_ALLOC_INDEX"), "NOMAD_ALLOC_INDEX"),
    ],
)
def test_half_a_set_names_the_missing_half(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} missing"):
        detect_platform(
            environ | SET, "x-0-r-0-1"
        )  # a name that alone would make this rank 1 of a StatefulSet


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (LWS | {"LWS_GROUP_SIZE": "0"}, "LWS_GROUP_SIZE='0'"),
        (LWS | {"LWS_WORKER_INDEX": "-1"}, "LWS_WORKER_INDEX='-1'"),
        (LWS | {"LWS_GROUP_SIZE": "9" * 5000}, "LWS_GROUP_SIZE="),
        (LWS | {"LWS_GROUP_SIZE": "٣"}, "LWS_GROUP_SIZE="),
        (TRAINER | {"PET_NNODES": "1:4"}, "PET_NNODES='1:4'"),
        (GROVE | {"GROVE_PCLQ_NAME": "app-0-sg-1-other"}, "GROVE_PCLQ_NAME='app-0-sg-1-other'"),
        (GROVE | {"GROVE_PCLQ_NAME": "app-0-sg-1-ldr"}, "GROVE_PCLQ_POD_INDEX=1"),
        (without(VOLCANO_PYTORCH, "RANK"), "MASTER, WORKER"),
        ({"VC_TASK_INDEX": "0"}, "VC_<TASK>_NUM"),
        (SLURM | {"SLURM_HET_SIZE": "2"}, "SLURM_HET_SIZE='2'"),
        (SLURM | {"SLURM_PACK_SIZE": "3"}, "SLURM_PACK_SIZE='3'"),
        (SLURM | COMPONENTS, "SLURM_JOB_NODELIST_HET_GROUP_0, SLURM_JOB_NODELIST_HET_GROUP_1"),
    ],
)
def test_impossible_values_name_the_variable(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        detect_platform(environ, "host")


def test_a_slurm_job_of_one_component_is_no_heterogeneous_one() -> None:
    whole = detect_platform(SLURM, "host")
    assert whole is not None
    one = {"SLURM_JOB_NODELIST_HET_GROUP_0": "gpu1", "SLURM_HET_SIZE": "1"}
    assert detect_platform(SLURM | one, "host") == whole


def test_components_of_a_slurm_job_are_refused_until_all_is_said() -> None:
    het = SLURM | {"SLURM_HET_SIZE": "2", "UNIT_REDIS_URL": "redis://h"}
    done = run("run", "--", "true", environ=het)
    assert done.returncode == 2
    assert (
        "SLURM_HET_SIZE='2' (set by the platform): heterogeneous Slurm jobs are not supported" in done.stderr
    )
    whole = {"UNIT_ID": "both", "RANK_ID": "5", "UNIT_SIZE": "6"}
    assert run("env", environ=het | whole).returncode == 0


@pytest.mark.parametrize(
    ("earlier", "later"),
    list(
        itertools.pairwise(
            (
                LWS,
                RBG,
                KTHENA,
                AIBRIX,
                GROVE,
                TRAINER,
                JAX,
                VOLCANO,
                JOB,
                BATCH,
                SLURM,
                NOMAD,
                SET,
                KUBERAY,
                KSERVE,
            )
        )
    ),
)
def test_the_order_of_the_table(earlier: dict[str, str], later: dict[str, str]) -> None:
    alone, both = detect_platform(earlier, "host-0"), detect_platform(later | earlier, "host-0")
    assert alone is not None
    assert both == alone


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [
        ("gpu[01-03,7],login", "gpu01"),
        ("login,gpu[01-03]", "login"),
        ("r[1-2]n[5-8]", "r1n5"),
        ("rack[2]-n[003,001].cluster", "rack2-n003.cluster"),
        ("single", "single"),
        ("", ""),
        ("broken[1-", "broken"),
    ],
)
def test_the_first_host_of_a_slurm_list(nodelist: str, first: str) -> None:
    assert first_host(nodelist) == first


def test_the_kubelet_writes_a_pods_full_name_into_its_hosts_file() -> None:
    hosts = "# Kubernetes-managed\n127.0.0.1\tlocalhost\n10.2.0.9\tweb-2.svc.ns.svc.cluster.local\tweb-2\n"
    assert find_full_name("web-2", hosts) == "web-2.svc.ns.svc.cluster.local"
    assert find_full_name("web-3", hosts) == "web-3"
    assert find_full_name("localhost", hosts) == "localhost"
