"""``unitagent logs``: what the workload of every rank has written lately, as its agent kept it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.local import UNIT, UNITAGENT, LocalUnit, clean, unitagent
from tests.acceptance.solo import Solo
from tests.ports import free_port
from tests.waiting import DEADLINE, until

TALKER = [
    "sh",
    "-c",
    """echo "rank $RANK_ID says $UNIT_GENERATION"; echo "HF_TOKEN=hf_abc" >&2; echo $$ >"$0/pid.$RANK_ID"
    exec sleep 1000""",
]
LOOK = ("logs", "--unit", UNIT)


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[LocalUnit]:
    unit = LocalUnit(tmp_path, "--guard", "--backoff-seconds", "0", workload=[*TALKER, str(tmp_path)])
    yield unit
    unit.close()


def fail(unit: LocalUnit, rank: int) -> None:
    """End the workload of a rank."""
    os.kill(int((unit.folder / f"pid.{rank}").read_text()), signal.SIGKILL)


def at(unit: LocalUnit, rank: int = 0) -> list[str]:
    return ["--http-address", unit.address(rank)]


def test_all_ranks_are_shown_with_their_names_and_one_without(unit: LocalUnit) -> None:
    unit.ready()
    done = unitagent(*LOOK, *at(unit, 1))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[rank 0] rank 0 says 1",
        "[rank 0] HF_TOKEN=***",
        "[rank 1] rank 1 says 1",
        "[rank 1] HF_TOKEN=***",
    ]
    one = unitagent(*LOOK, "--rank", "1", *at(unit), RANK_ID="0")
    assert one.stdout.splitlines() == ["rank 1 says 1", "HF_TOKEN=***"]
    no = unitagent(*LOOK, "--rank", "7", *at(unit))
    assert (no.returncode, no.stderr) == (1, "unitagent: error: --rank=7: the Unit has the ranks 0 to 1\n")
    assert "must be the number of a rank" in unitagent(*LOOK, "--rank", "auto", *at(unit)).stderr
    assert "hf_abc" in unit.output.read_text(), "the workload's own output is as it wrote it"
    assert "rank 1 says 1" in unit.output.read_text()


def test_what_an_ended_generation_wrote_is_still_there(unit: LocalUnit) -> None:
    unit.ready()
    fail(unit, 1)
    unit.ready(2)
    done = unitagent(*LOOK, "--rank", "1", *at(unit))
    lines = done.stdout.splitlines()
    assert lines == ["rank 1 says 1", "HF_TOKEN=***", "rank 1 says 2", "HF_TOKEN=***"]
    assert done.stderr == f"unitagent: rank 1 ({unit.address(1)}): generation 2 begins\n"


@pytest.fixture
def follow(unit: LocalUnit, tmp_path: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    """What a follower has said so far; it ends by Ctrl-C, without a word."""
    unit.ready()
    told, said = tmp_path / "told", tmp_path / "said"
    with told.open("wb") as out, said.open("wb") as errors:
        follower = subprocess.Popen(
            [*UNITAGENT, *LOOK, "--follow", *at(unit)],
            env=clean(), stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
        )  # fmt: skip
    yield lambda: (told.read_text(), said.read_text())
    before = said.read_text()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(DEADLINE) == 130
    assert said.read_text() == before


def test_it_is_followed_over_restarts(unit: LocalUnit, follow: Callable[[], tuple[str, str]]) -> None:
    until(lambda: follow()[0].count("says 1") == 2, "it follows")
    for generation in (2, 3):
        fail(unit, 0)
        until(lambda: follow()[0].count(f"says {generation}") == 2, "it follows on")  # noqa: B023
    lines = [line for line in follow()[0].splitlines() if "says" in line]
    assert sorted(lines) == [f"[rank {r}] rank {r} says {g}" for r in (0, 1) for g in (1, 2, 3)]
    assert follow()[1].count("generation 3 begins") == 2


def test_a_rank_that_goes_silent_is_named_and_the_others_are_shown(unit: LocalUnit) -> None:
    unit.ready()
    agents = [one for one in unit_agents(unit) if one[1] == 1]
    os.kill(agents[0][0], signal.SIGSTOP)
    try:
        done = unitagent(*LOOK, *at(unit))
    finally:
        os.kill(agents[0][0], signal.SIGCONT)
    assert done.returncode == 1
    assert "[rank 0] rank 0 says 1" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"unitagent: rank 1 ({unit.address(1)}): its agent does not answer; its last sign")


def unit_agents(unit: LocalUnit) -> list[tuple[int, int]]:
    """Pid and rank of each agent."""
    import psutil  # noqa: PLC0415

    found = []
    for process in psutil.Process(unit.popen.pid).children():
        environ = process.environ() if process.is_running() else {}
        words = process.cmdline()
        if "run" in words:
            rank = environ.get("RANK_ID") or words[words.index("--rank") + 1]
            found.append((process.pid, int(rank)))
    return found


def test_with_a_secret_only_those_who_have_it_read(tmp_path: Path) -> None:
    mine, other = "a-secret-of-this-unit", "another-secret-of-another-unit"
    solo = Solo(tmp_path, command=("sh", "-c", "echo hello; exec sleep 1000"), UNIT_SECRET=mine)
    try:
        solo.ready()
        until(lambda: solo.run("logs") == "hello\n", "it shows")
        assert solo.get("/logs") == "", "refused"
        solo.env = {**solo.env, "UNIT_SECRET": other}
        assert "carries no proof of UNIT_SECRET" in solo.run("logs")
        del solo.env["UNIT_SECRET"]
        assert solo.run("logs") == (
            f"unitagent: rank 0 (127.0.0.1:{solo.port}): its agent has a secret: pass the same one to this "
            "command (UNIT_SECRET_FILE)\n"
        )
    finally:
        solo.close()


@pytest.mark.parametrize(("script", "shown"), [
    ("echo the disk is full", ["the disk is full"]),
    ("echo it starts; echo the disk is full >&2", ["the disk is full"]),
])  # fmt: skip
def test_the_last_lines_are_those_of_stderr_or_else_of_stdout(
    tmp_path: Path, script: str, shown: list[str]
) -> None:
    command = ["sh", "-c", f"[ $UNIT_GENERATION = 1 ] && {{ {script}; exit 3; }}; exec sleep 1000"]
    solo = Solo(tmp_path, command=command)
    try:
        solo.ready(above=1)

        def read() -> list[str]:
            return re.findall(r"^  \| (.*)$", solo.run("status"), re.MULTILINE)

        assert until(read, "the store has them") == shown
    finally:
        solo.close()


def test_where_nobody_answers_it_says_what_to_do() -> None:
    done = unitagent("logs", "--http-address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 69
    assert "run this command in a container of the Unit, or name its agent" in done.stderr
    assert done.stderr.count("\n") == 1
