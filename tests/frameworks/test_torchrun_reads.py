"""torchrun's own parser understands what the adapter makes of a command, and what the agent offers alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.installed import PROGRAMS
from tests.frameworks_table.places import PORT, offered, place, plan

READER = PROGRAMS / "torchrun_reads.py"
PROGRAM = ["a.py", "--nnodes", "7", "-x"]  # the program's own words, which look like torchrun's
SPELLINGS = ("torchrun", "python -m torch.distributed.run")
IPV4, IPV6 = "10.0.0.", "fd00::"


def ask(torch: Path, *words: str, given: object = None) -> Any:
    """What the reader answers."""
    done = subprocess.run(
        [torch / "python", READER, *words],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def planned(base: str, rank: int, flags: str = "", spelling: str = SPELLINGS[0], **env: str) -> Any:
    """The arguments of a rank's torchrun as the adapter plans them, and the variables that the user set."""
    at = place(rank, 2, base)
    argv = plan("torchrun", f"{spelling} {flags} {' '.join(PROGRAM)}", at, **env).argv
    return argv[len(spelling.split()) :], env


def expected(base: str, rank: int, **differs: object) -> dict[str, object]:
    """What torchrun is to understand: the static rendezvous, unless something differs."""
    return {
        "nodes": [2, 2],
        "processes": 1,
        "backend": "static",
        "endpoint": [f"{base}1", PORT],
        "node": rank,
        "is_host": None,
        "run": "none",
        "local": None,
        "program": PROGRAM,
    } | differs


def elastic(base: str, rank: int) -> dict[str, object]:
    """What torchrun is to understand with c10d."""
    host = "false" if rank else "true"
    own = {"backend": "c10d", "node": None, "is_host": host, "run": "u-3", "local": f"{base}{rank + 1}"}
    return expected(base, rank, **own)


@pytest.mark.parametrize("base", [IPV4, IPV6])
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_understands_a_rank(torch: Path, base: str, rank: int) -> None:
    cases = [
        (planned(base, rank), expected(base, rank)),
        (planned(base, rank, spelling=SPELLINGS[1]), expected(base, rank)),
        (planned(base, rank, "--nproc-per-node=4"), expected(base, rank, processes=4)),
        (planned(base, rank, "--nnodes 2 --rdzv_backend static"), expected(base, rank)),
        (planned(base, rank, "--rdzv-backend c10d"), elastic(base, rank)),
        (planned(base, rank, "--rdzv_backend=c10d --nnodes 1:2"), elastic(base, rank) | {"nodes": [1, 2]}),
        (planned(base, rank, PET_RDZV_BACKEND="c10d"), elastic(base, rank)),
        (planned(base, rank, "--rdzv-backend c10d --rdzv-id j"), elastic(base, rank) | {"run": "j"}),
        (
            planned(base, rank, "--rdzv-backend c10d --rdzv-conf join_timeout=9 --rdzv-id u-3"),
            elastic(base, rank),
        ),
        (planned(base, rank, PET_RDZV_BACKEND="c10d", PET_RDZV_CONF="timeout=9"), elastic(base, rank)),
        (
            planned(base, rank, "--rdzv-backend c10d --rdzv-endpoint h:1"),
            elastic(base, rank) | {"endpoint": ["h", 1], "is_host": None},
        ),
        (planned(base, rank, PET_RDZV_ENDPOINT="h:1"), expected(base, rank, endpoint=["h", 1])),
        (planned(base, rank, "--rdzv-endpoint h:1"), expected(base, rank, endpoint=["h", 1])),
        ((PROGRAM, offered(place(rank, 2, base))), expected(base, rank)),  # the variables alone
    ]
    assert ask(torch, given=[given for given, _ in cases]) == [wanted for _, wanted in cases]


def test_no_option_hides_where_the_program_begins(torch: Path) -> None:
    """The adapter has to know which options take a value, of all that this torchrun has."""
    options: dict[str, bool] = ask(torch, "options")
    placing = {"--nnodes", "--node-rank", "--rdzv-backend", "--rdzv-endpoint", "--standalone", "--help", "-h"}
    tried = [name for name in sorted(options) if name.replace("_", "-") not in placing]
    assert len(tried) > 30
    cases = [planned(IPV4, 1, f"{name} {value_of(name)}" if options[name] else name) for name in tried]
    found = zip(tried, ask(torch, given=cases), strict=True)
    assert {name: (read["nodes"], read["node"], read["program"]) for name, read in found} == dict.fromkeys(
        tried, ([2, 2], 1, PROGRAM)
    )


def value_of(option: str) -> str:
    """A value that this option accepts."""
    picky = {
        "start-method": "spawn",
        "numa-binding": "node",
        "rdzv-conf": "timeout=9",
        "logs-specs": "default",
    }
    return picky.get(option.lstrip("-").replace("_", "-"), "1")
