"""A Unit's history in words: lines, JSON, a chart and a picture, and from when on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.operator.command import run
from tests.records import moment
from unitagent.core.history import EventKind, HistoryEvent
from unitagent.core.model import InstanceState as S
from unitagent.operator.history import event_text, svg, timeline
from unitagent.operator.history.event_text import parse_since
from unitagent.operator.history.timeline import Span, Timeline, build_timeline
from unitagent.operator.terminal import Style

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def at(
    second: float, rank: int, state: S | None, kind: EventKind = EventKind.STATE, **known: Any
) -> HistoryEvent:
    return moment(rank, at=NOON + second, state=state, kind=kind, **known)


STORY = [
    at(0, 0, S.IDLE, EventKind.GENERATION),
    at(0, 1, S.IDLE, EventKind.GENERATION),
    at(10, 0, S.HEALTHY),
    at(10, 1, S.RUNNING),
    at(50, 1, None, EventKind.FAILURE, detail='generation 1 ended: <b>&"rank 1\x1b[2J" was killed'),
    at(50, 1, S.STOPPING),
    at(50.1, 0, S.STOPPING),
    at(52, 0, S.IDLE, EventKind.GENERATION, generation=2),
    at(52, 1, S.IDLE, EventKind.GENERATION, generation=2),
    at(54, 0, S.HEALTHY, generation=2),
    at(54, 1, S.RUNNING, generation=2),
    at(90, 1, S.EXITED, EventKind.QUIT, generation=2),
]


def test_a_line_says_when_who_and_what_and_no_terminal_interprets_it() -> None:
    assert event_text.format_event(STORY[4]) == (
        "2026-01-31T12:00:50.000+00:00  gen 1   rank 1   failure     "
        'generation 1 ended: <b>&"rank 1\\x1b[2J" was killed'
    )
    assert event_text.format_event(at(0, 0, None, detail="a\nb")).endswith(r"  a\nb")


def test_the_keys_of_an_object_are_always_the_same() -> None:
    keys = ["at", "generation", "rank", "incarnation", "kind", "state", "detail", "phases"]
    seen = [json.loads(event_text.format_event_json(one)) for one in STORY]
    assert all(list(one) == keys for one in seen)
    assert seen[2] == {
        "at": NOON + 10, "generation": 1, "rank": 0, "incarnation": "i0", "kind": "state",
        "state": "healthy", "detail": "moment 0", "phases": None,
    }  # fmt: skip
    assert seen[4]["state"] is None


def test_they_are_told_in_order_and_a_failure_before_what_it_caused() -> None:
    mixed = [STORY[5], STORY[4], *STORY[6:], *STORY[:4]]
    assert event_text.sort_events(mixed) == STORY


def test_spans_follow_each_rank_to_its_end() -> None:
    line = build_timeline(STORY, {}, NOON + 100)
    assert (line.begin, line.end, line.ranks) == (NOON, NOON + 100, (0, 1))
    assert [(s.begin - NOON, s.end - NOON, s.state) for s in line.spans if s.rank == 1] == [
        (0, 10, S.IDLE), (10, 50, S.RUNNING), (50, 52, S.STOPPING), (52, 54, S.IDLE), (54, 90, S.RUNNING),
    ]  # fmt: skip
    assert [s for s in line.spans if s.rank == 0][-1] == Span(0, NOON + 54, NOON + 100, S.HEALTHY)
    assert line.generations == {1: NOON, 2: NOON + 52}
    assert line.faults == (STORY[4],)


def test_a_silent_rank_is_lost_since_its_last_beat_and_one_that_quit_is_not() -> None:
    line = build_timeline(STORY, {0: NOON + 95, 1: NOON + 89}, NOON + 100)
    assert [s for s in line.spans if s.rank == 0][-1] == Span(0, NOON + 95, NOON + 100, S.LOST)
    assert [s for s in line.spans if s.rank == 1][-1].state is S.RUNNING


def test_a_rank_that_another_told_to_be_lost_is_so_until_it_is_replaced() -> None:
    told = [at(0, 1, S.RUNNING), at(5, 1, S.LOST, EventKind.FAILURE), at(9, 1, S.IDLE, EventKind.TAKEOVER)]
    spans = build_timeline(told, {}, NOON + 10).spans
    assert [(s.begin - NOON, s.state) for s in spans] == [(0, S.RUNNING), (5, S.LOST), (9, S.IDLE)]


def test_who_waits_for_a_rank_or_has_lost_it_says_nothing_about_it() -> None:
    told = [
        at(0, 1, S.IDLE, EventKind.JOINED, incarnation="old"),
        at(1, 1, S.RUNNING, incarnation="old"),
        at(2, 1, S.WAITING, EventKind.QUIT, incarnation="waits"),
        at(3, 1, S.LOST, EventKind.FAILURE, incarnation="i0"),
        at(4, 1, S.IDLE, EventKind.TAKEOVER, incarnation="new"),
        at(5, 1, S.STOPPING, EventKind.FENCED, incarnation="old"),
        at(6, 1, S.EXITED, EventKind.QUIT, incarnation="old"),
        at(7, 1, S.RUNNING, incarnation="new"),
    ]
    spans = build_timeline(told, {}, NOON + 10).spans
    assert [(s.begin - NOON, s.end - NOON, s.state) for s in spans] == [
        (0, 1, S.IDLE), (1, 3, S.RUNNING), (3, 4, S.LOST), (4, 7, S.IDLE), (7, 10, S.RUNNING),
    ]  # fmt: skip


def test_from_when_on_cuts_what_was_before_and_keeps_the_state() -> None:
    line = build_timeline(STORY, {}, NOON + 100, NOON + 51)
    assert (line.begin, line.faults, list(line.generations)) == (NOON + 51, (), [2])
    first = next(s for s in line.spans if s.rank == 1)
    assert (first.begin, first.state) == (NOON + 51, S.STOPPING)


def test_a_unit_that_has_ended_ends_the_picture() -> None:
    told = [at(0, 0, S.RUNNING), at(5, 0, S.EXITED, EventKind.QUIT)]
    assert build_timeline(told, {0: NOON + 5}, NOON + 1000).end == NOON + 5


def test_a_chart_has_a_row_for_each_rank_and_the_failures_below() -> None:
    text = timeline.draw_chart("u", build_timeline(STORY, {}, NOON + 100), 57)
    assert text.splitlines() == [
        "Unit u: 2026-01-31T12:00:00.000+00:00 to 2026-01-31T12:01:40.000+00:00, a letter is 2 s",
        "gen    1                         2",
        "rank 0 -----" + "#" * 20 + "v-" + "#" * 23,
        "rank 1 -----" + "=" * 20 + "X-" + "=" * 18,
        "# healthy  = running  . waiting  - idle  s starting  v stopping  _ exited  ? lost  X failure  ! gap",
        'X 2026-01-31T12:00:50.000+00:00  generation 1 ended: <b>&"rank 1\\x1b[2J" was killed',
    ]


@pytest.mark.parametrize("width", [60, 100, 180])
def test_on_a_terminal_nothing_is_wider_and_every_word_stays_whole(width: int) -> None:
    detail = "the barrier of generation 2 opened for 3 instances: rank 0 is 10.0.0.11, port 29301; " * 2
    event = at(52, 0, None, EventKind.BARRIER, generation=2, detail=detail)
    style = Style(width=width)
    chart = timeline.draw_chart("u", build_timeline([*STORY, event], {}, NOON + 100), width, style)
    for text in (event_text.format_event(event, style), chart):
        assert max(map(len, text.splitlines())) <= width
    assert " ".join(event_text.format_event(event, style).split()).endswith(detail.strip())
    legend = [line for line in chart.splitlines() if line[:2] in ("# ", "v ")]
    assert "  ".join(legend).startswith("# healthy  = running  . waiting  - idle  s starting  v stopping")


def test_colours_mark_what_is_good_and_bad_and_need_a_style_that_has_them() -> None:
    coloured = Style(width=200, coloured=True)
    assert " \x1b[31mfailure\x1b[0m     generation 1 ended" in event_text.format_event(STORY[4], coloured)
    line = build_timeline(STORY, {}, NOON + 100)
    rows = timeline.draw_chart("u", line, 57, coloured).splitlines()
    assert rows[3].startswith("rank 1 -----\x1b[32m" + "=" * 20 + "\x1b[0m\x1b[31mX\x1b[0m")
    assert "\x1b" not in timeline.draw_chart("u", line, 57, Style(width=200))


def test_where_entries_are_missing_the_chart_and_the_picture_say_so() -> None:
    detail = "3 entries of rank 1 are missing here: the store did not take them in time"
    gap = at(40, 1, None, EventKind.GAP, detail=detail)
    line = build_timeline([*STORY, gap], {}, NOON + 100)
    rows = timeline.draw_chart("u", line, 60).splitlines()
    assert "!" in next(row for row in rows if row.startswith("rank 1"))
    assert "!" not in next(row for row in rows if row.startswith("rank 0"))
    assert any(row.endswith("X failure  ! gap") for row in rows)
    assert rows[-1].startswith("! ")
    assert rows[-1].endswith(detail)
    assert detail in svg.draw_svg("u", line)


def test_a_restart_of_a_moment_is_seen_in_a_chart_of_a_day() -> None:
    told = [at(0, 0, S.HEALTHY), at(40000, 0, S.STOPPING), at(40000.01, 0, S.HEALTHY)]
    (row,) = (
        one
        for one in timeline.draw_chart("u", build_timeline(told, {}, NOON + 86400), 80).splitlines()
        if "rank" in one
    )
    assert row.count("v") == 1


@pytest.mark.parametrize("width", [0, 1, 40, 1000])
@pytest.mark.parametrize(
    "line", [Timeline(NOON, NOON), build_timeline(STORY[:1], {}, NOON), build_timeline(STORY, {}, 0)]
)
def test_no_width_and_no_history_is_too_small(line: Timeline, width: int) -> None:
    rows = timeline.draw_chart("u", line, width).splitlines()
    assert all(len(row) <= max(width, 27) for row in rows if row.startswith("rank"))


SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_is_xml_with_every_span_and_nothing_of_it_runs() -> None:
    line = build_timeline(STORY, {}, NOON + 100)
    text = svg.draw_svg('<u>&"', line)
    root = ET.fromstring(text)  # noqa: S314  # our own
    titles = [one.text or "" for one in root.iter(f"{SVG}title")]
    assert len(titles) == len(line.spans)
    assert (
        "rank 1 running: 2026-01-31T12:00:10.000+00:00 to 2026-01-31T12:00:50.000+00:00, 40.000 s" in titles
    )
    words = [one.text or "" for one in root.iter(f"{SVG}text")]
    assert {"rank 0", "rank 1", "generation 1", "generation 2"} <= set(words)
    assert any(word.endswith('generation 1 ended: <b>&"rank 1\\x1b[2J" was killed') for word in words)
    assert any(word.startswith('Unit <u>&":') for word in words)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        "svg", "style", "rect", "title", "text", "path", "circle",
    }  # fmt: skip
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\")", text)


def test_everything_in_a_picture_lies_within_it() -> None:
    long = [at(100, 0, None, EventKind.FAILURE, generation=2, detail="why " * 200)]
    more = [at(100 + step, 0, S.IDLE, EventKind.GENERATION, generation=3 + step) for step in range(50)]
    root = ET.fromstring(svg.draw_svg("u", build_timeline([*STORY, *long, *more], {}, NOON + 100)))  # noqa: S314
    assert max(len(one.text or "") for one in root.iter(f"{SVG}text")) <= 150
    assert 1 < len([one for one in root.iter(f"{SVG}text") if "generation" in (one.text or "")]) < 15
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for one in root.iter():
        assert 0 <= float(one.get("x", "0")) <= width
        assert 0 <= float(one.get("y", "0")) <= height
        assert float(one.get("x", "0")) + float(one.get("width", "0")) <= width


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("30s", -30), ("10m", -600), ("2h", -7200), ("1d", -86400), ("90", -90), ("1.5M", -90), ("0", 0),
        ("2026-01-31T12:00:05", 5), ("2026-01-31T12:00:05Z", 5), ("2026-01-31T13:00:05+01:00", 5),
        ("2026-01-31", -43200),
    ],
)  # fmt: skip
def test_from_when_on(text: str, second: float) -> None:
    assert parse_since(text, NOON) == NOON + second


@pytest.mark.parametrize(
    "text", ["", "m", "x", "-5m", "nan", "inf", "10 years", "9" * 99, "0001-01-01x", "5w"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_since(text, NOON)
    for command in ("events", "timeline"):
        done = run(command, f"--since={text}")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert f"argument --since: {text!r}: must be a duration such as 30s, 10m" in done.stderr
        assert f"(see `unitagent {command} --help`)" in done.stderr


def test_a_failure_is_shown_with_what_was_found_out_about_it() -> None:
    told = [*STORY, at(58, 1, None, EventKind.EVIDENCE, detail="GPU 3 ran out of memory")]
    (fault,) = build_timeline(told, {}, NOON + 100).faults
    assert fault.detail.endswith("was killed; GPU 3 ran out of memory")
    assert build_timeline(STORY, {}, NOON + 100).faults[0].detail.endswith("was killed")


def test_starts_of_the_engine_stand_below_the_chart_and_the_picture() -> None:
    started = at(
        60, 0, None, EventKind.ENGINE, detail="rank 0's engine started in 6.0 s", phases={"weights": 6}
    )
    line = build_timeline([*STORY, started], {}, NOON + 100)
    assert line.starts == (started,)
    assert build_timeline([*STORY, started], {}, NOON + 100, since=NOON + 61).starts == ()
    told = "2026-01-31T12:01:00.000+00:00  rank 0's engine started in 6.0 s"
    assert timeline.draw_chart("u", line, 200, Style(width=200)).splitlines()[-1] == f"s {told}"
    assert f"start  {told}".replace("'", "&#x27;") in svg.draw_svg("u", line)
    assert json.loads(event_text.format_event_json(started))["phases"] == {"weights": 6}
