"""The command line made from the table."""

from __future__ import annotations

import argparse

import pytest

from unitagent.settings.cli_options import add_arguments, collect_flags, split_command
from unitagent.settings.variables import VARIABLES


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    return parser


def test_every_variable_but_the_secret_has_a_flag() -> None:
    without = {name for name, variable in VARIABLES.items() if variable.flag is None}
    assert without == {"UNIT_SECRET"}
    named = {
        name: VARIABLES[name].flag for name in ("UNIT_ID", "RANK_ID", "COMM_IFNAME", "UNIT_LEASE_SECONDS")
    }
    assert named == {
        "UNIT_ID": "--unit",
        "RANK_ID": "--rank",
        "COMM_IFNAME": "--comm-ifname",
        "UNIT_LEASE_SECONDS": "--lease-seconds",
    }
    taken = [variable.flag for variable in VARIABLES.values() if variable.flag]
    assert len(taken) == len(set(taken))


def test_help_names_every_variable_with_its_default(parser: argparse.ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    for name, variable in VARIABLES.items():
        if variable.flag:
            assert variable.flag in text
            assert name in text
            assert (variable.known or variable.default or "") in text


def test_flags_carry_text(parser: argparse.ArgumentParser) -> None:
    found = collect_flags(
        parser.parse_args(["--unit", "a", "--size=2", "--guard", "--strict=false", "--rank", "auto"])
    )
    assert found == {
        "UNIT_ID": "a",
        "UNIT_SIZE": "2",
        "UNIT_GUARD": "true",
        "UNIT_STRICT": "false",
        "RANK_ID": "auto",
    }


@pytest.mark.parametrize(
    ("words", "options", "command"),
    [
        (["--guard", "vllm", "serve", "--guard"], ["--guard=true"], ["vllm", "serve", "--guard"]),
        (["--guard=false", "--size", "2", "--", "-x"], ["--guard=false", "--size", "2"], ["-x"]),
        (["--size=2", "a", "--", "b"], ["--size=2"], ["a", "--", "b"]),
        (["--", "--guard"], [], ["--guard"]),
        (["--strict"], ["--strict=true"], []),
        (["--guard", "No", "--", "x"], ["--guard=No"], ["x"]),
        (["--guard", "on", "--size", "2", "--", "x"], ["--guard=on", "--size", "2"], ["x"]),
        (["--guard", "true", "x"], ["--guard=true"], ["true", "x"]),
        (["--guard", "--", "true", "--"], ["--guard=true"], ["true", "--"]),
        (["--guard", "x", "--", "y"], ["--guard=true"], ["x", "--", "y"]),
        (["--size"], ["--size"], []),
        (["--help"], ["--help"], []),
        (["--nonsense", "a"], ["--nonsense"], ["a"]),
        ([], [], []),
    ],
)
def test_the_command_begins_where_the_options_end(
    words: list[str], options: list[str], command: list[str]
) -> None:
    assert split_command(words) == (options, command)
