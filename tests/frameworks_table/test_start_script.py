"""A framework was named, and the program is another: it gets the flags, if it can do anything with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.frameworks_table.places import offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.completer import CompletedCommand, complete_command
from unitagent.frameworks.interface import RankContext
from unitagent.frameworks.shell_text import drops_flags

RANK_1 = place(1)


def tried(folder: Path, command: str, name: str = "vllm", at: RankContext = RANK_1) -> CompletedCommand:
    return complete_command(name, tuple(command.split()), offered(at), str(folder), lambda *_: at)


@pytest.mark.parametrize("command", ["sh serve.sh", "./serve.sh", "bash -eu serve.sh", "./serve.sh m"])
@pytest.mark.parametrize("name", ["vllm", "sglang", "lmdeploy"])
def test_a_script_that_drops_the_flags_is_refused(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "serve.sh").write_text("#!/bin/sh\nexport A=1\nexec vllm serve m --port 18000\n")
    with pytest.raises(ConfigurationError, match=rf"UNIT_FRAMEWORK={name}: .*the script serve.sh passes no"):
        tried(tmp_path, command, name)


@pytest.mark.parametrize("uses", ['"$@"', "$*", "${@:2}", "$1", "--node-rank $RANK_ID"])
def test_a_script_that_hands_them_on_gets_them_and_that_is_said(tmp_path: Path, uses: str) -> None:
    (tmp_path / "serve.sh").write_text(f"#!/usr/bin/env bash\nexec vllm serve m {uses}\n")
    made = tried(tmp_path, "./serve.sh")
    assert made.plan is not None
    assert "--nnodes" in made.plan.argv
    assert any("serve.sh gets --nnodes" in notice for notice in made.notices)


@pytest.mark.parametrize("command", ["sleep infinity", "python3 app.py", "./gone.sh", "/opt/start m"])
def test_of_any_other_program_it_is_said(tmp_path: Path, command: str) -> None:
    made = tried(tmp_path, command)
    assert any("must pass them on to the engine" in notice for notice in made.notices)


@pytest.mark.parametrize(
    "command", ["accelerate launch a.py", "python3 -m sglang.launch_server --model-path m"]
)
def test_another_framework_s_command_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"UNIT_FRAMEWORK=vllm: .*it is a command of (accelerate|sglang)"
    ):
        tried(tmp_path, command)


def test_what_it_knows_needs_no_word(tmp_path: Path) -> None:
    assert not tried(tmp_path, "numactl -N 0 vllm serve m").notices


PORTS = {
    'exec vllm serve m --port 18000 "$@"': 18000,
    'PORT=18001\ncd /\nvllm serve m --port $PORT "$@" 2>&1 | cat': 18001,
    'exec vllm serve m --port ${OF_NOBODY:-18002} "$@"': 18002,
    'bash -c "exec vllm serve m --port 18003 $*"': 18003,
    'exec vllm serve m "$@"': 8000,
}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("text", PORTS)
@pytest.mark.parametrize("command", ["./serve.sh", "bash -e serve.sh --seed 1"])
def test_the_port_is_the_one_in_the_script(tmp_path: Path, text: str, command: str, size: int) -> None:
    (tmp_path / "serve.sh").write_text(f"#!/bin/sh\n{text}\n")
    made = tried(tmp_path, command, at=place(0, size))
    assert made.plan is not None
    assert "is assumed" not in " ".join(made.notices)
    port = PORTS[text]
    assert (made.plan.traffic_port, made.plan.health) == (port, f"http://127.0.0.1:{port}/health")
    assert made.plan.metrics_url == f"http://127.0.0.1:{port}/metrics"


@pytest.mark.parametrize(
    "text",
    ["while true; do vllm serve m --port 18000; done", "python3 app.py --port 18000", "$@ --port 18000"],
)
def test_where_no_port_can_be_read_the_default_is_assumed_and_that_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "serve.sh").write_text(f"#!/bin/sh\n: $@\n{text}\n")
    (assumed,) = tried(tmp_path, "./serve.sh", at=place(0, 1)).notices
    assert "serve.sh names no port, so the default 8000 is assumed" in assumed
    assert "set UNIT_TRAFFIC_PORT and UNIT_HEALTH_URL" in assumed
    assert not tried(tmp_path, "./serve.sh --port 9000", at=place(0, 1)).notices
    assert "is assumed" not in " ".join(tried(tmp_path, "./serve.sh").notices)  # rank 1 takes no requests


@pytest.mark.parametrize(("told", "health"), [(8000, "http://127.0.0.1:8000/health"), (9000, None)])
def test_the_users_port_stands_in_for_the_default(tmp_path: Path, told: int, health: str | None) -> None:
    made = tried(tmp_path, "python3 app.py", at=replace(place(0, 1), traffic_port=told))
    assert made.plan is not None
    assert (made.plan.health, made.notices) == (health, ())


def test_a_port_that_only_the_script_knows_is_not_assumed(tmp_path: Path) -> None:
    (tmp_path / "serve.sh").write_text("#!/bin/sh\n. ./env.sh\nexec vllm serve m --port $PORT\n")
    made = tried(tmp_path, "./serve.sh", at=place(0, 1))
    assert made.plan is not None
    assert (made.plan.health, made.plan.traffic_port, made.notices) == (None, None, ())
    assert made.hidden == "the port is $PORT, which only the shell can expand"


def test_what_cannot_be_read_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "long").write_bytes(b"#!/bin/sh\n" + b"#" * (1 << 16))
    (tmp_path / "plain").write_text("echo\n")
    for words in (["./binary"], ["sh", "long"], ["./plain"], ["sh"], ["sh", "."], ["./none"]):
        assert not drops_flags(words, str(tmp_path)), words
    assert not drops_flags(["sh", "plain"], None)
    assert drops_flags(["sh", "plain"], str(tmp_path))
