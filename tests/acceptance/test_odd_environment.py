"""Bytes that nobody meant as settings, in all variables at once: one line that names them all."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.acceptance.local import UNITAGENT, clean
from tests.waiting import DEADLINE
from unitagent.settings.variables import VARIABLES

BYTES = b"\xff\xfe"
MANY = 1_000_000 // len(VARIABLES)  # characters: the kernel takes less than 2 MB of environment
OTHERS = [b"tcp://10.0.0.1:80", b"\x1b[2J\n\n", b"9" * MANY, b"-"]


@pytest.mark.parametrize(
    ("command", "value"),
    [("env", BYTES), ("status", BYTES), ("doctor", BYTES), *(("run", value) for value in (BYTES, *OTHERS))],
)
def test_all_is_named_in_one_line(command: str, value: bytes) -> None:
    odd = {os.fsencode(name): value for name in VARIABLES}
    env = {os.fsencode(name): os.fsencode(text) for name, text in clean().items()} | odd
    done = subprocess.run(
        [*UNITAGENT, command, *(["--", "true"] if command == "run" else [])],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    said = (done.stderr + done.stdout).decode()
    assert "Traceback" not in said
    assert "internal error" not in said
    if command == "doctor":
        assert done.returncode == 1
        return
    assert done.returncode == 2
    assert done.stderr.startswith(b"unitagent: error: ")
    assert done.stderr.count(b"\n") == 1
    assert b"\x1b" not in done.stderr
    for name in ("UNIT_SIZE", "RANK_ID", "UNIT_LEASE_SECONDS", "UNIT_HTTP_ADDRESS", "UNIT_MODE"):
        assert name in said


def test_a_word_of_the_command_line_that_is_no_text() -> None:
    for words in ([b"run", b"--size", b"\xff"], [b"\xff"], [b"status", b"--unit", b"\xff\xfe"]):
        done = subprocess.run([*UNITAGENT, *words], env=clean(), capture_output=True, stdin=-3, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith(b"unitagent: error: ")
        assert done.stderr.count(b"\n") == 1
