"""What a person reads who types something else than there is."""

from __future__ import annotations

import json

import pytest

from tests.operator.command import run

PLACE = {"UNIT_SIZE": "2", "RANK_ID": "0"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the following arguments are required: COMMAND (see `unitagent --help`)"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("satus", "unknown command 'satus'; did you mean status? (see `unitagent --help`)"),
        ("time-line --json", "unknown command 'time-line'; did you mean timeline?"),
        ("run --nonsense true", "unknown arguments: --nonsense (see `unitagent run --help`)"),
        ("run --siz 2 true", "unknown arguments: --siz; did you mean --size? (see `unitagent run --help`)"),
        ("--nonsense status", "unknown arguments: --nonsense (see `unitagent status --help`)"),
        ("doctor extra", "unknown arguments: extra (see `unitagent doctor --help`)"),
        ("drain --wiat", "unknown arguments: --wiat; did you mean --wait? (see `unitagent drain --help`)"),
        ("status --rank", "argument --rank: expected one argument (see `unitagent status --help`)"),
        ("env --format xml", "argument --format: invalid choice: 'xml'"),
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


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "local",
        "env",
        "doctor",
        "status",
        "events",
        "timeline",
        "list",
        "endpoints",
        "drain",
        "restart",
    ],
)
def test_help_begins_with_one_line_and_names_the_words_of_a_choice(command: str) -> None:
    text = run(command, "--help").stdout
    usage, _, rest = text.partition("\n\n")
    assert usage.startswith(f"usage: unitagent {command} ")
    assert "\n" not in usage
    assert (
        "find the interface's RDMA device for NCCL: off or auto [env: UNIT_RDMA] [default: off]"
        in " ".join(rest.split())
    )


def test_env_tells_what_is_found_out_where_nothing_is_set() -> None:
    lines = run("env", environ=PLACE).stdout.splitlines()
    told = {line.partition("=")[0]: line.partition("# ")[2] for line in lines}
    assert told["UNIT_REDIS_URL"] == "not set; default embedded at rank 0"
    assert told["MASTER_ADDRESS"] == told["UNIT_SERVICE"] == "not set"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"COMM_IFNAME": "lo"}, {"RANK_IP": ("127.0.0.1", "found: first usable one of the interface")}),
        ({"RANK_IP": "127.0.0.9"}, {"COMM_IFNAME": ("lo", "found: net0, eth1, default route's, if usable")}),
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
