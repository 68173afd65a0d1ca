"""The table of ``unitagent status``: what is not as it should be stands there in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.probes import agents
from unitagent.core.summary import summarize
from unitagent.operator.status_table import format_table
from unitagent.operator.terminal import Column, Style, cut_lines, format_columns, measure_text


def status(**changes: Any) -> dict[str, Any]:
    seen = agents.status(**changes)
    return {**seen, "summary": summarize(seen, now=100.0)}


def lines(**changes: Any) -> list[str]:
    return format_table(status(**changes)).splitlines()


def row(connected: bool = True, **changes: Any) -> str:
    one = agents.instance(**changes)
    store = {"connected": connected, "since": 1.0}
    return format_table(status(instances=[one], store=store), beat_due=1.5).splitlines()[3]


def condition(**changes: Any) -> dict[str, Any]:
    told = {"type": "StoreReachable", "status": "False", "reason": "StoreSilent", "since": 1.0}
    return {**told, "message": "the store does not answer; the Unit continues", **changes}


def test_a_condition_that_is_not_met_says_since_when() -> None:
    (gone,) = [line for line in lines(conditions=[condition()]) if "the store" in line]
    assert gone.startswith("since 1970-01-01T")
    assert gone.endswith(": the store does not answer; the Unit continues")


def test_one_that_never_was_has_no_since_and_one_that_is_met_is_not_told() -> None:
    assert "the store does not answer; the Unit continues" in lines(conditions=[condition(since=None)])
    assert lines(conditions=[condition(status="True")]) == lines(conditions=[]) == lines()


def test_a_rank_whose_heartbeat_is_missing_is_silent() -> None:
    assert row(state="running", lease_seconds=3.2).endswith("3.2 s  silent for 3 s")
    assert row(state="lost", lease_seconds=12.0).endswith("12.0 s  lost for 12 s")
    assert row(state="running", lease_seconds=1.4).endswith("1.4 s")
    absent: dict[str, Any] = {
        "incarnation": None,
        "ip": None,
        "hostname": None,
        "state": "waiting",
        "lease_seconds": None,
    }
    assert row(**absent).split() == ["1", "missing", "-", "-", "7", "-", "never", "joined"]


def test_who_has_left_is_not_silent_and_without_the_store_nobody_can_be_heard() -> None:
    assert row(state="exited", lease_seconds=60.0).endswith("60.0 s")
    assert row(state="running", lease_seconds=None).endswith("-")
    assert row(connected=False, state="running", lease_seconds=60.0).endswith("60.0 s")


def secrets(**told: Any) -> list[str]:
    return [line for line in lines(secrets=told) if line.startswith("secrets")]


def test_a_rank_without_a_secret_in_common_is_told_apart_from_one_in_the_middle_of_a_change() -> None:
    between, apart = secrets(accepted=2, differing=[1, 3], strangers=[3])
    assert between == "secrets accepted: 2; rank 1 has different secrets"
    assert apart.startswith("secrets accepted: 2; rank 3 has none of these secrets and cannot join")
    assert secrets(accepted=2, differing=[], strangers=[]) == [
        "secrets accepted: 2; all ranks have the same secrets"
    ]
    assert secrets(accepted=1, differing=[0, 1]) == ["secrets accepted: 1; ranks 0, 1 have different secrets"]
    assert secrets(accepted=1, differing=[], strangers=[]) == []


def test_a_wrong_secret_is_told_as_such_where_none_is_being_changed() -> None:
    absent = agents.instance(incarnation=None, state="waiting", lease_seconds=0.2)
    wrong = {"accepted": 1, "differing": [1, 9], "strangers": [1, 9]}  # 9: of a larger Unit
    told = lines(instances=[agents.instance(rank=0), absent], secrets=wrong)
    assert told[4].split()[-3:] == ["has", "another", "UNIT_SECRET"]
    assert "never joined" not in "".join(told)
    assert told[5].startswith(
        "ranks 1, 9 have another UNIT_SECRET and cannot join the next barrier: all ranks"
    )
    assert len(secrets(accepted=1, differing=None)) == 1


FAILED = {"generation": 1, "rank": 1, "reason": "exit", "exit_code": 3, "signal": None, "at": 40.0}


def test_a_planned_restart_and_the_last_failure_stand_apart_each_with_its_age() -> None:
    order = {
        "generation": 2,
        "detail": "generation 2 ended: a restart was requested: new weights",
        "at": 90.0,
    }
    seen = status(failure={**FAILED, "detail": "generation 1 ended: rank 1 exited"}, last_order=order)
    *_, asked, failed = format_table(seen, now=100.0).splitlines()
    assert asked.startswith("last ordered restart 10 s ago, 1970-01-01T")
    assert asked.endswith(": a restart was requested: new weights")
    assert failed.startswith("last failure 1 min ago, 1970-01-01T")
    assert failed.endswith(": generation 1 ended: rank 1 exited")


def test_columns_fit_what_they_hold_and_a_narrow_terminal_loses_host_then_address() -> None:
    one = agents.instance(hostname="a-rather-long-host-name.example", ip="fd00:0:0:0:1:2:3:4")
    seen = status(instances=[one])
    tables = {width: _format_instances(seen, width) for width in (100, 70, 60, 40)}
    heads = [table[0].split() for table in tables.values()]
    assert heads[0] == ["rank", "state", "address", "host", "gen", "seen"]
    assert heads[2] == ["rank", "state", "address", "gen", "seen"]
    assert heads[3] == ["rank", "state", "gen", "seen"]
    assert all(len(line) <= width for width, table in tables.items() for line in table)


def _format_instances(seen: dict[str, Any], width: int) -> list[str]:
    """Return the lines from the heads of the columns on."""
    text = format_table(seen, style=Style(width=width)).splitlines()
    return text[next(number for number, line in enumerate(text) if line.startswith("rank  state")) :]


LONG = (
    "generation 1 ended: rank 1 (127.0.0.2) was killed by signal 9 (SIGKILL): out of memory, or killed from "
    "outside; ranks 0, 2 stopped"
)


@pytest.mark.parametrize("width", [20, 60, 100, 180, None])
def test_a_terminal_breaks_sentences_between_words_and_a_pipe_not_at_all(width: int | None) -> None:
    text = format_table(status(failure={**FAILED, "detail": LONG}), now=100.0, style=Style(width=width))
    lines = text.splitlines()
    assert " ".join(text.split()).endswith(LONG)
    (begin,) = [number for number, line in enumerate(lines) if line.startswith("last failure ")]
    if width is None:
        assert len(lines) == begin + 1
    else:
        assert max(map(len, lines[begin:])) <= max(width, len("1970-01-01T00:00:40.000+00:00:") + 2)
        assert all(line.startswith("  ") for line in lines[begin + 1 :])


def test_an_old_sign_of_life_is_shown_without_tenths() -> None:
    assert row(state="lost", lease_seconds=7200.0).endswith("2 h  lost for 2 h")
    assert row(state="exited", lease_seconds=99.0).endswith("99.0 s")


def test_absent_ranks_are_marked_in_the_table_and_not_once_more_below() -> None:
    absent = condition(type="RanksPresent", message="rank 1 never joined, rank 2 never joined")
    assert lines(conditions=[absent]) == lines()


def test_colours_follow_the_severity_and_hostile_text_brings_none() -> None:
    evil = agents.instance(hostname="\x1b[31mred", state="lost", lease_seconds=9.0)
    text = format_table(status(ready=False, instances=[evil]), style=Style(width=200, coloured=True))
    head, _, _, row = text.splitlines()
    assert head.startswith("\x1b[31mUnit u: ")
    assert "\x1b[31mlost" in row
    assert "\\x1b[31mred" in row
    assert "\x1b" not in format_table(status(ready=False, instances=[evil]))


def test_a_unit_of_which_no_rank_is_known_has_a_head_and_no_rows() -> None:
    assert lines(instances=[])[2].split() == ["rank", "state", "address", "host", "gen", "seen"]


def test_a_screen_counts_the_columns_that_are_seen() -> None:
    painted = Style(width=30, coloured=True).paint("x" * 30, "good")
    assert cut_lines([painted] * 3, 30, 3) == [painted] * 3
    assert cut_lines([painted] * 4, 30, 3) == [painted, painted, "… 2 more lines"]


def test_how_it_was_started_is_told_where_that_could_be_in_two_ways() -> None:
    told = "rank 0 started cold: its gate has ended; its next start is warm"
    assert f"start: {told}" in lines(start={"message": told})
    assert not any(line.startswith("start:") for line in lines(start={"message": None}))
    assert not any(line.startswith("start:") for line in lines(start=None))


def test_letters_of_two_columns_are_counted_as_such() -> None:
    assert [measure_text(text) for text in ("ab", "節点", "e\u0301", "\uff48")] == [2, 4, 1, 2]
    table = format_columns([Column("host"), Column("gen")], [["節点一", "1"], ["node-a", "2"]], Style())
    assert [measure_text(line.rpartition(" ")[0]) for line in table[1:]] == [7, 7]
    assert cut_lines(["節" * 30], 40, 1) == ["… 1 more lines"], "it takes two rows"
    lines = Style(width=40).wrap("模型 " * 30, "last failure ")
    assert max(map(measure_text, lines)) <= 40
    assert "".join(lines).replace(" ", "").removeprefix("lastfailure") == "模型" * 30


def test_the_start_of_a_known_engine_is_told() -> None:
    told = {"message": "rank 0's engine started in 2.0 s: weights 2.0 s"}
    assert lines(engine=told)[-1] == "engine: rank 0's engine started in 2.0 s: weights 2.0 s"
    assert lines(engine=None) == lines()
