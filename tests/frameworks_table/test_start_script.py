"""A framework was named, and the program is another: it gets the flags, if it can do anything with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks_table.places import offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.completing import Completed, complete
from unitagent.frameworks.start_script import drops_flags


def tried(folder: Path, command: str, name: str = "vllm") -> Completed:
    at = place(1)
    return complete(name, tuple(command.split()), offered(at), str(folder), lambda *_: at)


@pytest.mark.parametrize("command", ["sh serve.sh", "./serve.sh", "bash -eu serve.sh", "./serve.sh m"])
@pytest.mark.parametrize("name", ["vllm", "sglang", "lmdeploy"])
def test_a_script_that_drops_the_flags_is_refused(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "serve.sh").write_text("#!/bin/sh\nexport A=1\nexec vllm serve m --port 18000\n")
    with pytest.raises(ConfigurationError, match=rf"UNIT_FRAMEWORK={name}: .*without \"\$@\""):
        tried(tmp_path, command, name)


@pytest.mark.parametrize("uses", ['"$@"', "$*", "${@:2}", "$1", "--node-rank $RANK_ID"])
def test_a_script_that_hands_them_on_gets_them_and_that_is_said(tmp_path: Path, uses: str) -> None:
    (tmp_path / "serve.sh").write_text(f"#!/usr/bin/env bash\nexec vllm serve m {uses}\n")
    made = tried(tmp_path, "./serve.sh")
    assert made.plan is not None
    assert "--nnodes" in made.plan.argv
    assert any("serve.sh is given --nnodes" in notice for notice in made.notices)


@pytest.mark.parametrize("command", ["sleep infinity", "python3 app.py", "./gone.sh", "/opt/start m"])
def test_of_any_other_program_it_is_said(tmp_path: Path, command: str) -> None:
    made = tried(tmp_path, command)
    assert any("has to hand them on to the engine" in notice for notice in made.notices)


@pytest.mark.parametrize(
    "command", ["accelerate launch a.py", "python3 -m sglang.launch_server --model-path m"]
)
def test_another_framework_s_command_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigurationError, match=r"UNIT_FRAMEWORK=vllm: .*it is (accelerate|sglang)'s"):
        tried(tmp_path, command)


def test_what_it_knows_needs_no_word(tmp_path: Path) -> None:
    assert not tried(tmp_path, "numactl -N 0 vllm serve m").notices


def test_what_cannot_be_read_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "long").write_bytes(b"#!/bin/sh\n" + b"#" * (1 << 16))
    (tmp_path / "plain").write_text("echo\n")
    for words in (["./binary"], ["sh", "long"], ["./plain"], ["sh"], ["sh", "."], ["./none"]):
        assert not drops_flags(words, str(tmp_path)), words
    assert not drops_flags(["sh", "plain"], None)
    assert drops_flags(["sh", "plain"], str(tmp_path))
