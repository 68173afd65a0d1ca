"""``unitagent list``: real Units of one store, and what of them is told first."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.acceptance.local import unitagent
from tests.acceptance.solo import Solo
from tests.servers import running
from tests.waiting import until
from unitagent.operator.list_cli import format_units
from unitagent.operator.terminal import Style


def test_all_units_are_listed_the_worst_first(tmp_path: Path) -> None:
    with running(tmp_path) as redis:
        nobody = unitagent("list", "--redis-url", redis.url)
        assert (nobody.returncode, nobody.stdout) == (0, "the store has no Unit\n")
        units = []
        for name in ("alpha", "beta"):
            folder = tmp_path / name
            folder.mkdir()
            words = ["--unit", f"{name}-{os.getpid()}", "--lease-seconds", "2", "--backoff-seconds", "0"]
            units.append(Solo(folder, *words, "--service", "chat", UNIT_REDIS_URL=redis.url))

        def listed() -> list[dict[str, Any]]:
            done = unitagent("list", "--json", "--redis-url", redis.url)
            assert done.returncode == 0, done.stderr
            return list(json.loads(done.stdout))

        try:
            os.kill(units[0].ready()["instances"][0]["pid"], signal.SIGKILL)
            units[0].ready(above=1)
            units[1].ready()
            until(lambda: [one["ready"] for one in listed()] == [True, True], "both are listed, and ready")
            os.kill(units[1].popen.pid, signal.SIGSTOP)
            until(lambda: listed()[0]["phase"] == "silent", "the silent one comes first")
            bad, good = listed()
            assert (bad["unit"], bad["service"], bad["ready"]) == (f"beta-{os.getpid()}", "chat", False)
            assert (good["restarts"], good["failure"]["reason"]) == (1, "signal")
            head, first, second, why = unitagent("list", "--redis-url", redis.url).stdout.splitlines()
            assert head.split() == ["unit", "service", "phase", "ready", "restarts", "last", "failure"]
            assert first.split()[2:] == ["silent", "no", "0", "-"]
            assert "signal at rank 0, " in second
            assert f"beta-{os.getpid()}: silent: no rank has sent a heartbeat for " in why
        finally:
            for unit in units:
                os.kill(unit.popen.pid, signal.SIGCONT)
                unit.close()


def test_a_store_that_is_away_is_one_line() -> None:
    done = unitagent("list", "--redis-url", "redis://127.0.0.1:1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)


def test_a_hostile_name_moves_no_cursor_and_narrow_terminals_lose_columns() -> None:
    unit = {
        "unit": "u", "service": "\x1b[2J", "phase": "silent", "ready": False, "severity": "bad",
        "message": "", "generation": 1, "restarts": 0, "failure": None, "pause": None,
    }  # fmt: skip
    assert "\x1b" not in format_units([unit], 0.0, Style())
    assert "service" not in format_units([unit], 0.0, Style(width=40))
    assert "\x1b[31msilent" in format_units([unit], 0.0, Style(width=40, coloured=True))


def test_below_the_table_the_worst_units_say_what_is_wrong() -> None:
    sick = {
        "service": "s", "phase": "running", "ready": False, "severity": "busy", "message": "loading for 7 s",
        "generation": 1, "restarts": 0, "failure": None, "pause": None,
    }  # fmt: skip
    good = {**sick, "unit": "good", "severity": "good", "message": "ready"}
    _, *rows, told = format_units([{**sick, "unit": "u"}, good], 0.0, Style()).splitlines()
    assert (len(rows), told) == (2, "u: loading for 7 s")
    many = [{**sick, "unit": f"u{number}"} for number in range(12)]
    *_, last, rest = format_units(many, 0.0, Style()).splitlines()
    assert (last, rest[:10]) == ("u9: loading for 7 s", "and 2 more")


def test_a_pause_is_told() -> None:
    unit = {
        "unit": "u", "service": "s", "phase": "running", "ready": True, "severity": "busy", "message": "",
        "generation": 1, "restarts": 0, "failure": None, "pause": {"until": 9.0, "by": "", "reason": ""},
    }  # fmt: skip
    assert "running, paused  yes" in format_units([unit], 0.0, Style())
