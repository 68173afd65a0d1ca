from __future__ import annotations

import pytest

from tests.frameworks_table.places import line, place, plan
from unitagent.errors import ConfigurationError

ELASTIC = "--rdzv-endpoint 10.0.0.1:40000 --rdzv-conf is_host=false --local-addr 10.0.0.2"


def static(rank: int) -> str:
    return f"--nnodes 2 --node-rank {rank} --master-addr 10.0.0.1 --master-port 40000"


def c10d(rank: int) -> str:
    host = "false" if rank else "true"
    return (
        f"--nnodes 2 --rdzv-endpoint 10.0.0.1:40000 --rdzv-conf is_host={host} "
        f"--rdzv-id u-3 --local-addr 10.0.0.{rank + 1}"
    )


@pytest.mark.parametrize(
    ("rank", "size", "command", "expected"),
    [
        (0, 1, "torchrun a.py", "torchrun a.py"),
        (0, 2, "torchrun --nproc-per-node 8 a.py", f"torchrun {static(0)} --nproc-per-node 8 a.py"),
        (1, 2, "torchrun --nproc-per-node 8 a.py", f"torchrun {static(1)} --nproc-per-node 8 a.py"),
        (1, 2, "python -m torch.distributed.run a.py", f"python -m torch.distributed.run {static(1)} a.py"),
        (
            1,
            2,
            "torchrun a.py --nnodes 7 --node-rank 9",
            f"torchrun {static(1)} a.py --nnodes 7 --node-rank 9",
        ),
        (
            1,
            2,
            "torchrun -m --nnodes=2 pkg --standalone",
            f"torchrun {static(1)[11:]} -m --nnodes=2 pkg --standalone",
        ),
        (1, 2, "torchrun -r 3 --no_python sh -c x", f"torchrun {static(1)} -r 3 --no_python sh -c x"),
        (
            1,
            2,
            "torchrun --master_addr h a.py",
            f"torchrun {static(1).replace('--master-addr 10.0.0.1 ', '')} --master_addr h a.py",
        ),
        (
            1,
            2,
            "torchrun --rdzv-endpoint h:1 a.py",
            "torchrun --nnodes 2 --node-rank 1 --rdzv-endpoint h:1 a.py",
        ),
        (0, 2, "torchrun --rdzv-backend c10d a.py", f"torchrun {c10d(0)} --rdzv-backend c10d a.py"),
        (1, 2, "torchrun --rdzv_backend=c10d a.py", f"torchrun {c10d(1)} --rdzv_backend=c10d a.py"),
        (
            1,
            2,
            "torchrun --rdzv-backend c10d --nnodes 1:4 --rdzv-id j a.py",
            f"torchrun {ELASTIC} --rdzv-backend c10d --nnodes 1:4 --rdzv-id j a.py",
        ),
        (  # a store of the user's: who hosts it is theirs to say
            0,
            2,
            "torchrun --rdzv-backend c10d --rdzv-endpoint other:1 a.py",
            (
                "torchrun --nnodes 2 --rdzv-id u-3 --local-addr 10.0.0.1 --rdzv-backend c10d "
                "--rdzv-endpoint other:1 a.py"
            ),
        ),
        (
            0,
            2,
            "torchrun --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:7 a.py",
            (
                "torchrun --nnodes 2 --rdzv-conf is_host=true --rdzv-id u-3 --local-addr 10.0.0.1 "
                "--rdzv-backend c10d --rdzv-endpoint 10.0.0.1:7 a.py"
            ),
        ),
        (
            0,
            2,
            "torchrun --rdzv-backend c10d --rdzv_conf=timeout=9 --rdzv-id j a.py --rdzv-conf x",
            (
                "torchrun --nnodes 2 --rdzv-endpoint 10.0.0.1:40000 --local-addr 10.0.0.1 "
                "--rdzv-backend c10d --rdzv_conf=timeout=9 --rdzv-id j "
                "--rdzv-conf timeout=9,is_host=true a.py --rdzv-conf x"
            ),
        ),
        (
            1,
            2,
            "torchrun --rdzv-backend c10d --rdzv-conf is_host=true --rdzv-id j a.py",
            (
                "torchrun --nnodes 2 --rdzv-endpoint 10.0.0.1:40000 --local-addr 10.0.0.2 "
                "--rdzv-backend c10d --rdzv-conf is_host=true --rdzv-id j a.py"
            ),
        ),
        (
            1,
            2,
            "torchrun --rdzv-backend etcd-v2 a.py",
            "torchrun --nnodes 2 --rdzv-id u-3 --local-addr 10.0.0.2 --rdzv-backend etcd-v2 a.py",
        ),
        (1, 2, "bash train.sh", "bash train.sh"),  # a torchrun in there reads PET_NNODES and the like
        (1, 2, "torchrun", f"torchrun {static(1)}"),
    ],
)
def test_place(rank: int, size: int, command: str, expected: str) -> None:
    assert line("torchrun", command, place(rank, size)) == expected


def test_variables_stand_for_flags() -> None:
    assert line("torchrun", "torchrun a.py", place(1), PET_RDZV_BACKEND="c10d") == f"torchrun {c10d(1)} a.py"
    kept = line(
        "torchrun", "torchrun a.py", place(1), PET_MASTER_ADDR="h", PET_MASTER_PORT="7", PET_NNODES="1:2"
    )
    assert kept == "torchrun --node-rank 1 a.py"
    met = line("torchrun", "torchrun a.py", place(1), PET_RDZV_ENDPOINT="h:1")
    assert met == "torchrun --nnodes 2 --node-rank 1 a.py"
    own = {"PET_RDZV_BACKEND": "c10d", "PET_RDZV_CONF": "timeout=9"}
    merged = c10d(1).replace(" --rdzv-conf is_host=false", "") + " --rdzv-conf timeout=9,is_host=false"
    assert line("torchrun", "torchrun a.py", place(1), **own) == f"torchrun {merged} a.py"
    assert "is_host" not in line("torchrun", "torchrun a.py", place(), **own, PET_RDZV_ENDPOINT="other:1")


@pytest.mark.parametrize(
    ("flags", "env", "problem"),
    [
        ("--nnodes 3", {}, "--nnodes 3: the Unit has 2 instances"),
        ("--nnodes 3:4", {}, "--nnodes 3:4: the Unit has 2 instances"),
        ("--nnodes two", {}, "--nnodes two: the Unit has 2 instances"),
        ("--node_rank=1", {}, "--node-rank 1: this instance has rank 0"),
        ("--standalone", {}, "--standalone: the Unit has 2 instances"),
        ("", {"PET_NNODES": "3"}, "PET_NNODES=3: the Unit has 2 instances; leave it out$"),
        ("", {"PET_NODE_RANK": "1"}, "PET_NODE_RANK=1: this instance has rank 0"),
    ],
)
def test_contradictions(flags: str, env: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        line("torchrun", f"torchrun {flags} a.py", place(0), **env)


def test_nothing_is_known_of_the_program() -> None:
    made = plan("torchrun", "torchrun a.py", place(0))
    assert (made.health, made.traffic_port, made.env) == (None, None, {})


def test_ipv6() -> None:
    assert "--master-addr [fd00::1] " in line("torchrun", "torchrun a.py", place(1, 2, "fd00::"))
