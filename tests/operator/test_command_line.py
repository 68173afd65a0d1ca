"""What a person reads who types something else than there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.operator.command import UNITAGENT, run
from unitagent import cli
from unitagent.cli import COMMANDS
from unitagent.settings.variables import VARIABLES

PLACE = {"UNIT_SIZE": "2", "RANK_ID": "0"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the following arguments are required: COMMAND (see `unitagent --help`)"),
        ("nonsense", "unknown command 'nonsense': must be run, local, status, list, "),
        ("help", "unknown command 'help'; did you mean --help?"),
        ("satus", "unknown command 'satus'; did you mean status? (see `unitagent --help`)"),
        ("time-line --json", "unknown command 'time-line'; did you mean timeline?"),
        ("run --nonsense true", "unknown arguments: --nonsense (see `unitagent run --help`)"),
        ("run --siz 2 true", "unknown arguments: --siz; did you mean --size? (see `unitagent run --help`)"),
        ("--nonsense status", "unknown arguments: --nonsense (see `unitagent status --help`)"),
        (
            "pause 10",
            "unknown arguments: 10 (usage: unitagent pause [--for DURATION] [--reason TEXT] [OPTIONS])",
        ),
        ("drain --wiat", "unknown arguments: --wiat; did you mean --wait? (see `unitagent drain --help`)"),
        ("status --rank", "argument --rank: expected one argument (see `unitagent status --help`)"),
        ("env --format xml", "argument --format: 'xml': must be shell or json (see `unitagent env --help`)"),
        ("env --format jsn", "'jsn': must be shell or json; did you mean json?"),
        ("probe redy", "argument KIND: 'redy': must be live, ready, traffic or startup; did you mean ready?"),
        (
            "render composed x",
            "argument ENGINE: 'composed': must be compose, swarm or lws; did you mean compose?",
        ),
        (
            "run --size 1 --rank 0 --framework vlm true",
            "UNIT_FRAMEWORK='vlm' (flag --framework): must be none, ",
        ),
        ("run --size 1 --rank 0 --framework vlm true", "; unset it for the default none; did you mean vllm?"),
        (
            "run --size 1 --rank 0 --mode jbo true",
            "must be service or job; unset it for the default service; did",
        ),
        ("probe live --timeout x", "--timeout: 'x': must be a number of seconds from 0.001"),
        ("probe live --timeout -1", "--timeout: '-1': must be a number of seconds from 0.001"),
        ("probe live --timeout nan", "--timeout: 'nan': must be a number of seconds from 0.001"),
        ("local -- true", "--size (UNIT_SIZE) missing: must be an integer"),
        ("local --size 0 -- true", "--size (UNIT_SIZE)='0': must be an integer from 1 to 250"),
        ("local --size " + "9" * 5000 + " -- true", "must be an integer from 1 to 250"),
    ],
)
def test_a_wrong_word_is_one_line_with_what_is_accepted(line: str, said: str) -> None:
    done = run(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("unitagent: error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command prints with an option of help, in this process: a process for each takes longer."""

    def ask(command: str, option: str = "--help", columns: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as ended:
            cli.main([command, option])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return ask


WITH_SETTINGS = [name for name, command in COMMANDS.items() if command.variables]


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_help_begins_with_one_line_and_help_all_names_the_words_of_a_choice(
    command: str, help_of: Callable[..., str]
) -> None:
    text = help_of(command, "--help-all")
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"usage: unitagent {command} ")
    assert "\n" not in usage
    assert (
        "find the interface's RDMA device for NCCL: off or auto [env: UNIT_RDMA] [default: off]"
        in " ".join(rest.split())
    )
    assert sorted(set(re.findall(r"\[env: (\w+)\]", " ".join(rest.split())))) == sorted(
        name
        for name, variable in VARIABLES.items()
        if variable.flag and name not in COMMANDS[command].without
    )


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_help_shows_few_settings(command: str, help_of: Callable[..., str]) -> None:
    text = " ".join(help_of(command).split())
    assert set(re.findall(r"\[env: (\w+)\]", text)) == set(COMMANDS[command].variables)
    assert "--help-all" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_has_an_example(command: str, help_of: Callable[..., str]) -> None:
    for width in (80, 140):
        lines = help_of(command, columns=width).splitlines()
        assert max(map(len, lines[1:])) <= width
        assert lines[-2:] == ["example:", f"  {COMMANDS[command].example}"]


def test_help_lists_every_command_once() -> None:
    text = run("--help").stdout
    assert re.findall(r"^  ([a-z]+) ", text, re.MULTILINE) == list(COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "completion"])
def test_the_examples_are_accepted(command: str) -> None:
    words = shlex.split(COMMANDS[command].example.partition(" >")[0])
    assert words[:2] == ["unitagent", command]
    mine, _ = cli._split_off_workload(words[1:])
    assert cli._build_parser_for(command, mine).parse_args(mine).run


def test_env_tells_what_is_found_out_where_nothing_is_set() -> None:
    lines = run("env", environ=PLACE).stdout.splitlines()
    told = {line.partition("=")[0]: line.partition("# ")[2] for line in lines}
    assert told["UNIT_REDIS_URL"] == "not set; default embedded at rank 0"
    assert told["MASTER_ADDRESS"] == told["UNIT_SERVICE"] == "not set"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"COMM_IFNAME": "lo"}, {"RANK_IP": ("127.0.0.1", "found: first usable address of the interface")}),
        (
            {"RANK_IP": "127.0.0.9"},
            {
                "COMM_IFNAME": (
                    "lo",
                    "found: the first usable of net0, eth1 and the default route's, else the only one",
                )
            },
        ),
        ({"COMM_IFNAME": "none7"}, {"RANK_IP": (None, "not found now: COMM_IFNAME='none7' is not an")}),
        ({"COMM_IFNAME": "none7", "RANK_IP": "10.255.1.2"}, {"RANK_IP": ("10.255.1.2", "environment")}),
    ],
)
def test_env_shows_the_interface_and_the_address_that_are_found(
    given: dict[str, str], found: dict[str, tuple[str | None, str]]
) -> None:
    done = run("env", "--format", "json", environ=PLACE | given)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for name, (value, source) in found.items():
        assert seen[name]["value"] == value
        assert source in seen[name]["source"]


@pytest.mark.parametrize(
    ("variables", "missing", "known"),
    [
        ({}, {"UNIT_SIZE", "RANK_ID"}, {"UNIT_ID": "unit"}),
        ({"UNIT_ID": "chat", "RANK_ID": "0"}, {"UNIT_SIZE"}, {"UNIT_ID": "chat", "RANK_ID": "0"}),
        ({"UNIT_SIZE": "2"}, {"RANK_ID"}, {"UNIT_SIZE": "2"}),
        ({"UNIT_SIZE": "2", "RANK_ID": "1"}, {"MASTER_ADDRESS"}, {"UNIT_SIZE": "2", "RANK_ID": "1"}),
        ({"UNIT_SIZE": "2", "RANK_ID": "auto"}, {"UNIT_REDIS_URL"}, {"UNIT_SIZE": "2", "RANK_ID": "auto"}),
    ],
)
@pytest.mark.parametrize("form", ["shell", "json"])
def test_env_shows_what_is_known_of_an_incomplete_identity_and_says_what_is_missing(
    form: str, variables: dict[str, str], missing: set[str], known: dict[str, str]
) -> None:
    done = run("env", "--format", form, environ=variables | {"COMM_IFNAME": "lo"})
    shown = _read_settings(done.stdout) if form == "shell" else json.loads(done.stdout)
    assert {name for name, one in shown.items() if one["source"].startswith("missing: must be ")} == missing
    assert {name: shown[name]["value"] for name in known} == known
    assert shown["RANK_IP"]["value"] == "127.0.0.1"
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    subject, _, remedy = done.stderr.partition(" missing: ")
    assert {name for name in missing if name not in subject or name not in remedy} == set()


def _read_settings(text: str) -> dict[str, dict[str, str]]:
    lines = (line.partition("  # ") for line in text.splitlines())
    words = ((shlex.split(left)[0].partition("="), source) for left, _, source in lines)
    return {name: {"value": value, "source": source} for (name, _, value), source in words}


def test_env_shows_nothing_where_more_than_the_identity_is_wrong() -> None:
    done = run("env", environ={"UNIT_MODE": "jbo"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "(1) UNIT_MODE='jbo'" in done.stderr
    assert "(2) RANK_ID and UNIT_SIZE missing" in done.stderr


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*UNITAGENT, "env", "--size", "1", "--rank", "0"], env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
            check=False,
        )  # fmt: skip
    said = "unitagent: error: stdout cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)
