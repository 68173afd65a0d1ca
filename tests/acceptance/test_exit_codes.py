"""How a command ends when there is nothing to supervise: the code and one line for a person."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.local import LocalUnit, unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE
from unitagent import __version__
from unitagent.settings.variables import VARIABLES

SECRET = "told-to-nobody-at-all"  # noqa: S105


def _run(*words: str) -> tuple[int, str]:
    """An agent of rank 0 of 2 with an address of its own: its code and what it said last."""
    own = ["--size", "2", "--rank", "0", "--rank-ip", "127.0.0.1", "--comm-ifname", "lo"]
    done = unitagent("run", *own, "--http-address", f"127.0.0.1:{free_port()}", *words)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.splitlines()[-1] if done.stderr else ""


def test_a_command_that_is_not_there() -> None:
    code, said = _run("--", "no-such-command-here")
    assert code == 127
    assert said.startswith("unitagent: error: ")
    assert "no-such-command-here" in said


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program\n")
    code, said = _run("--", str(plain))
    assert code == 126
    assert str(plain) in said


def test_a_store_that_never_answers() -> None:
    code, said = _run("--redis-url", "redis://127.0.0.1:1/0", "--store-timeout-seconds", "1", "--", "true")
    assert code == 69
    assert "UNIT_STORE_TIMEOUT_SECONDS" in said


def test_a_barrier_that_never_opens() -> None:
    code, said = _run("--barrier-timeout-seconds", "1", "--", "true")
    assert code == 124
    assert "1" in said


RANK_0_OF_2 = ["--size", "2", "--rank", "0"]


@pytest.mark.parametrize(
    ("words", "variables", "names"),
    [
        (["--nonsense"], {}, ["--nonsense"]),
        (["--size", "zero", "--rank", "0"], {}, ["UNIT_SIZE", "zero"]),
        ([], {"UNIT_DRAIN_SECONDS": "soon", "UNIT_GUARD": "perhaps"}, ["UNIT_DRAIN_SECONDS", "perhaps"]),
        (["--size", "2"], {}, ["RANK_ID"]),
        (["--rank", "0"], {}, ["UNIT_SIZE"]),
        (["--size", "2", "--rank", "2"], {}, ["RANK_ID", "2"]),
        ([*RANK_0_OF_2, "--lease-seconds", "1"], {}, ["UNIT_LEASE_SECONDS", "UNIT_HEARTBEAT_SECONDS"]),
        (RANK_0_OF_2, {"UNIT_HTTP_ADDRESS": "tcp://10.0.0.1:80"}, ["UNIT_HTTP_ADDRESS", "service link"]),
    ],
)  # fmt: skip
def test_bad_settings_are_named_before_anything_starts(
    words: list[str], variables: dict[str, str], names: list[str]
) -> None:
    done = unitagent("run", *words, "--", "true", **variables)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("unitagent: error: ")
    assert [name for name in names if name not in done.stderr] == []


def test_local_needs_a_size_and_a_command() -> None:
    assert unitagent("local", "--", "true").returncode == 2
    assert unitagent("local", "--size", "2").returncode == 2
    done = unitagent("local", "--size", "2", "--rank", "1", "--", "true")
    assert done.returncode == 2
    assert "--rank" in done.stderr


def test_a_command_not_found_ends_a_local_unit(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, workload=["no-such-command-here"])
    try:
        assert unit.popen.wait(DEADLINE) == 127
    finally:
        unit.close()


def test_version_is_one_line() -> None:
    done = unitagent("--version")
    assert (done.returncode, done.stdout) == (0, f"unitagent {__version__}\n")


def test_env_names_the_rule_behind_each_value() -> None:
    done = unitagent("env", "--format", "json", "--size", "2", RANK_ID="0", UNIT_SECRET=SECRET)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert shown.keys() == VARIABLES.keys()
    assert shown["UNIT_SIZE"]["value"] == "2"
    assert shown["RANK_ID"] == {"value": "0", "source": "environment"}
    assert shown["UNIT_GUARD"]["source"] == "default"
    assert SECRET not in done.stdout


def test_env_for_a_shell_can_be_read_by_one() -> None:
    done = unitagent("env", UNIT_SIZE="2", RANK_ID="0")
    assert done.returncode == 0
    assert re.search(r"^UNIT_SIZE=2 +# ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("", 2), ("-- sh -c 'exit 3'", 3)])
def test_streams_that_cannot_be_written_change_no_exit_code(streams: str, words: str, code: int) -> None:
    options = f"--size 1 --rank 0 --comm-ifname lo --http-address 127.0.0.1:{free_port()} {words}"
    command = f"exec {sys.executable} -m unitagent run {options} {streams}"
    assert subprocess.run(["/bin/sh", "-c", command], timeout=DEADLINE, check=False).returncode == code
