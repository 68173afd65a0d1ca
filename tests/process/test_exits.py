"""How a process ended is what a shell would say."""

from __future__ import annotations

import os
import signal

import pytest

from unitagent.core.exits import Exit, ExitCode, from_wait_status, signal_name


@pytest.mark.parametrize("code", [0, 1, 3, 127, 128, 255])
def test_code(code: int) -> None:
    ended = from_wait_status(code << 8)
    assert (ended, ended.status, ended.reason) == (Exit(code, None), code, "exit")
    assert ended.status == os.waitstatus_to_exitcode(code << 8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, 64])
@pytest.mark.parametrize("core_dumped", [0, 0x80])
def test_signal(number: int, core_dumped: int) -> None:
    ended = from_wait_status(int(number) | core_dumped)
    assert (ended.signal, ended.code, ended.status, ended.reason) == (number, None, 128 + number, "signal")


def test_oom_is_a_reason_of_its_own() -> None:
    ended = Exit(1, None, oom=True)
    assert (ended.reason, ended.status) == ("oom", 1)
    assert "out of memory" in ended.describe_exit()


def test_names_agree_with_the_system() -> None:
    named = [number for number in range(1, 32) if not signal_name(number).removeprefix("SIG").isdecimal()]
    assert len(named) >= 15
    assert all(signal.Signals(number).name == signal_name(number) for number in named)


def test_descriptions() -> None:
    assert Exit(3, None).describe_exit() == "exited with code 3"
    assert Exit(None, 15).describe_exit() == "was killed by signal 15 (SIGTERM)"
    assert "out of memory, or killed from outside" in Exit(None, 9).describe_exit()
    assert Exit(None, 9).describe_exit(stopped=True) == "was killed by signal 9 (SIGKILL): by its agent"


@pytest.mark.parametrize(
    "ended", [Exit(None, 9, by_watchdog=True), Exit(1, None, oom=True, by_watchdog=True)]
)
def test_the_own_watchdog_is_no_want_of_memory(ended: Exit) -> None:
    assert ended.describe_exit().endswith("longer than a lease, so the watchdog killed it")
    assert "memory" not in ended.describe_exit()
    assert ended.reason == ("signal" if ended.signal else "exit")


@pytest.mark.parametrize(("code", "number"), [(None, None), (1, 9)])
def test_neither_or_both_is_refused(code: int | None, number: int | None) -> None:
    with pytest.raises(ValueError, match="either a code or a signal"):
        Exit(code, number)


def test_the_contracts_codes() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 69, 70, 75, 76, 77, 124, 126, 127]
