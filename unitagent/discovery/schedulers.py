"""Identity of this instance from the environment variables of AWS Batch, Slurm and Nomad."""

from __future__ import annotations

import re

from unitagent.discovery.platform_rules import (
    Environ,
    Platform,
    PlatformRule,
    make_unit_name,
    read_rank,
    read_size,
)
from unitagent.errors import ConfigurationError

_MAIN_ADDRESS = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"


def _read_batch(environ: Environ, _hostname: str) -> Platform:
    """Make the main node rank 0, swapped with node 0 if it is another; it alone does not get its own address.

    Source: AWS Batch, "Multi-node parallel job environment variables".
    """
    node, main = (
        read_rank(environ, "AWS_BATCH_JOB_NODE_INDEX"),
        read_rank(environ, "AWS_BATCH_JOB_MAIN_NODE_INDEX"),
    )
    if node != main and not environ.get(_MAIN_ADDRESS):
        raise ConfigurationError(
            f"{_MAIN_ADDRESS} missing: AWS_BATCH_JOB_NODE_INDEX={node} is not the main node ({main}), "
            "and every other node gets that address; set RANK_ID, UNIT_SIZE and MASTER_ADDRESS instead"
        )
    return Platform(
        "AWS Batch",
        {main: 0, 0: main}.get(node, node),
        read_size(environ, "AWS_BATCH_JOB_NUM_NODES"),
        None if node == main else environ[_MAIN_ADDRESS],
        make_unit_name(environ.get("AWS_BATCH_JOB_ID", "").partition("#")[0]),
        ("AWS_BATCH_JOB_NODE_INDEX, AWS_BATCH_JOB_NUM_NODES, AWS_BATCH_JOB_MAIN_NODE_INDEX",),
    )


def _read_slurm(environ: Environ, _hostname: str) -> Platform:
    """Take a node for an instance, or a task where a step runs several tasks on a node.

    Source: srun(1), OUTPUT ENVIRONMENT VARIABLES. A step's variables come before its job's, which is larger.
    """
    _refuse_heterogeneous_job(environ)
    nodes = _find_first_set(environ, "SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    tasks = _find_first_set(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    listed = _find_first_set(environ, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    rank = _find_first_set(environ, "SLURM_NODEID", "SLURM_PROCID")
    if not nodes or not rank:
        missing = "SLURM_NODEID" if nodes else "SLURM_JOB_NUM_NODES"
        raise ConfigurationError(
            f"{missing} missing: SLURM_JOB_ID={environ['SLURM_JOB_ID']!r} says this is Slurm, which sets "
            "it for every task that srun starts; start unitagent with srun, or set RANK_ID and UNIT_SIZE"
        )
    size = read_size(environ, nodes)
    if tasks and environ.get("SLURM_PROCID") and read_size(environ, tasks) > size:
        rank, nodes, size = "SLURM_PROCID", tasks, read_size(environ, tasks)
    leader = first_host(environ[listed]) if listed else None
    step = environ.get("SLURM_STEP_ID")
    unit = f"slurm-{environ['SLURM_JOB_ID']}" + (f"-{step}" if step else "")
    return Platform(
        "Slurm", read_rank(environ, rank), size, leader, make_unit_name(unit), (f"{rank}, {nodes}",)
    )


def _refuse_heterogeneous_job(environ: Environ) -> None:
    """Refuse a heterogeneous job: each component counts its nodes from 0, and all have the same job and step.

    Source: Slurm, "Heterogeneous Job Support"; up to Slurm 19.05 these were called packs.
    """
    variable = next((name for name in _COMPONENTS if environ.get(name, "1") not in {"", "1"}), "")
    lists = sorted(name for name in environ if _COMPONENT.fullmatch(name) and environ[name])
    if not variable and len(lists) < 2:  # noqa: PLR2004
        return
    evidence = f"{variable}={environ[variable]!r}" if variable else ", ".join(lists)
    raise ConfigurationError(
        f"{evidence} (set by the platform): heterogeneous Slurm jobs are not supported: each component would "
        "form its own Unit under the same name; set UNIT_ID, RANK_ID, UNIT_SIZE and MASTER_ADDRESS (or "
        "UNIT_REDIS_URL) for each task, with SLURM_PROCID as the rank where one Unit spans all components"
    )


_COMPONENTS = ("SLURM_HET_SIZE", "SLURM_PACK_SIZE")
_COMPONENT = re.compile(r"SLURM_JOB_NODELIST_(HET|PACK)_GROUP_[0-9]+")


def _find_first_set(environ: Environ, *names: str) -> str | None:
    return next((name for name in names if environ.get(name)), None)


def first_host(nodelist: str) -> str:
    """Return the first host of a Slurm node list such as ``gpu[01-03,7],login`` or ``r[1-2]n[1-4]``."""
    group = re.match(r"(?:[^,\[\]]|\[[^\]]*\])*", nodelist)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", group[0] if group else "")


def _read_nomad(environ: Environ, _hostname: str) -> Platform:
    """Read the index; Nomad knows neither size nor leader, but a job's meta block can carry ``unit_size``.

    A canary or a replacement may get an index that is in use; the lease of the store settles that.
    """
    variable = next(
        (name for name in environ if name.upper() == "NOMAD_META_UNIT_SIZE" and environ[name]), None
    )
    parts = (environ.get("NOMAD_JOB_ID"), environ.get("NOMAD_GROUP_NAME"))
    return Platform(
        "Nomad",
        read_rank(environ, "NOMAD_ALLOC_INDEX"),
        read_size(environ, variable) if variable else None,
        None,
        make_unit_name("-".join(part for part in parts if part)),
        ("NOMAD_ALLOC_INDEX" + (f", {variable}" if variable else ""),),
    )


SCHEDULERS: tuple[PlatformRule, ...] = (
    PlatformRule(
        "AWS Batch",
        ("AWS_BATCH_JOB_NODE_INDEX", "AWS_BATCH_JOB_NUM_NODES"),
        ("AWS_BATCH_JOB_NODE_INDEX", "AWS_BATCH_JOB_NUM_NODES", "AWS_BATCH_JOB_MAIN_NODE_INDEX"),
        _read_batch,
    ),
    PlatformRule("Slurm", ("SLURM_JOB_ID",), (), _read_slurm),
    PlatformRule("Nomad", ("NOMAD_ALLOC_ID",), ("NOMAD_ALLOC_INDEX",), _read_nomad),
)
