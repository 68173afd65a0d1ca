"""An engine whose ranks other than 0 ignore SIGTERM, as SGLang's do: nobody waits for them in vain."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import LocalUnit
from tests.waiting import until
from unitagent.system import procfs

HOURS = "10000"
ENGINE = """#!/bin/sh
[ "$RANK_ID" = 0 ] || trap "" TERM
echo $$ >{folder}/new.$RANK_ID; mv {folder}/new.$RANK_ID {folder}/$UNIT_GENERATION.$RANK_ID
exec sleep 1000
"""


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[LocalUnit]:
    engine = tmp_path / "sglang"
    engine.write_text(ENGINE.format(folder=tmp_path))
    engine.chmod(0o755)
    words = ["--guard", "--framework", "sglang", "--backoff-seconds", "0"]
    words += ["--restart-grace-seconds", HOURS, "--stop-grace-seconds", HOURS]
    started = LocalUnit(tmp_path, *words, workload=[str(engine), "serve"])
    yield started
    started.close()


def pid(unit: LocalUnit, generation: int, rank: int) -> int:
    path = unit.folder / f"{generation}.{rank}"
    until(path.exists, f"rank {rank} runs in generation {generation}")
    return int(path.read_text())


def test_they_are_killed_at_once(unit: LocalUnit) -> None:
    """After a failure of rank 0, and in a drain once rank 0 has stopped."""
    first = [pid(unit, 1, rank) for rank in range(2)]
    os.kill(first[0], signal.SIGKILL)
    second = [pid(unit, 2, rank) for rank in range(2)]
    assert procfs.read_process(first[1]) is None
    assert all(procfs.read_process(each) for each in second)
    assert unit.interrupt() == 0
