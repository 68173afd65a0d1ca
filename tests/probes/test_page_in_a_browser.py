"""The page in a real Chromium, whose document is printed once its script has run for some seconds."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.probes.agents import FakeAnswers, instance, serving, status
from tests.probes.loops import in_loop
from unitagent.core.summary import summarize

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None
)
HOSTILE = "</td><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]


def shown(**changes: Any) -> dict[str, Any]:
    seen = status(conditions=[], last_order=None, **changes)
    return {**seen, "summary": summarize(seen, time.time())}


@dataclass
class ChangingAnswers(FakeAnswers):
    """Shows one status after the other, then the last one again; None is an internal error."""

    stories: tuple[dict[str, Any] | None, ...] = ()
    asked: int = 0

    def build_status(self) -> dict[str, Any]:
        self.asked += 1
        seen = self.stories[min(self.asked, len(self.stories)) - 1]
        if seen is None:
            raise RuntimeError("boom")
        return seen


class FakeHistory:
    """The history of each Unit of a store with one Unit."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = events

    async def list_units(self) -> list[dict[str, Any]]:
        fields = {"service": "u", "generation": 7, "address": "fd00::1", "port": 8000, "age_seconds": 0.1}
        return [{"unit": "u", "phase": "running", "ready": False, **fields}]

    async def get_unit(self, name: str) -> dict[str, Any] | None:
        return shown(unit=name)

    async def read_events(self, name: str) -> dict[str, Any]:
        return {"now": time.time(), "events": list(self.events)}


def event(ago: float, rank: int, kind: str, state: str | None, detail: str = "") -> dict[str, Any]:
    at = {"at": time.time() - ago, "generation": 7, "rank": rank, "incarnation": f"of {rank}"}
    return {**at, "kind": kind, "state": state, "detail": detail}


async def load(folder: Path, port: int, fragment: str = "", seconds: int = 200) -> str:
    """Return the document after so many seconds of the browser's time, of which most pass at once."""
    assert CHROMIUM is not None
    options = ["--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    options += [f"--virtual-time-budget={1000 * seconds}"]
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", *options, "--dump-dom", f"http://127.0.0.1:{port}/{fragment}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    document, _ = await browser.communicate()
    return document.decode()


def find(document: str, element: str) -> str:
    """Return the text of the element with this id."""
    match = re.search(rf'<(\w+) id="{element}"[^>]*>(.*?)</\1>', document, re.DOTALL)
    assert match, document
    return re.sub(r"<[^>]*>", "", match[2])


@in_loop
async def test_what_others_wrote_stays_text(tmp_path: Path) -> None:
    instances = [instance(rank=0, hostname=HOSTILE, ip=HOSTILE), instance(incarnation=None)]
    failure = {"generation": 6, "rank": 0, "reason": "exit", "detail": HOSTILE, "at": time.time() - 90}
    seen = shown(instances=instances, failure=failure, master_address=HOSTILE)
    seen["summary"]["message"] = HOSTILE
    history = FakeHistory(event(5, 0, "failure", None, HOSTILE))
    async with serving(FakeAnswers(shown=seen), units=history) as port:
        document = await load(tmp_path, port)
    assert "<img" not in document
    assert document.count("<script>") == 1
    assert "<title>u: ready</title>" in document
    assert document.count("&lt;img") >= 5
    assert "✕ missing" in document


@in_loop
async def test_it_follows_the_unit(tmp_path: Path) -> None:
    forming = shown(ready=False, phase="forming")
    answers = ChangingAnswers(stories=(forming, shown()))
    async with serving(answers, units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert answers.asked >= 2
    assert find(document, "summary") == "● ready"
    assert '<div id="band" class="good">' in document
    assert re.search(r'<p id="trouble" role="alert" hidden="">', document)


@in_loop
async def test_what_is_old_is_grey_and_says_so(tmp_path: Path) -> None:
    async with serving(ChangingAnswers(stories=(shown(), None)), units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert "The agent says: internal error" in find(document, "trouble")
    assert '<div id="seen" class="stale">' in document
    assert "<title>? u: ready</title>" in document


@in_loop
async def test_the_timeline_and_the_last_events(tmp_path: Path) -> None:
    story = (
        event(600, 0, "joined", "idle", "rank 0 joined"),
        event(599, 1, "joined", "idle", "rank 1 joined"),
        event(590, 0, "state", "healthy", "rank 0 is healthy"),
        event(590, 1, "state", "running", "rank 1 is running"),
        event(580, 0, "ready", None, "the Unit serves"),
        event(300, 1, "failure", "lost", "rank 1 is lost"),
    )
    lost = [instance(rank=0, state="healthy"), instance(state="lost", lease_seconds=300.0)]
    async with serving(FakeAnswers(shown=shown(instances=lost)), units=FakeHistory(*story)) as port:
        document = await load(tmp_path, port)
    rows = re.findall(r"<tr>(.*?)</tr>", re.search(r'id="history">(.*?)</tbody>', document, re.DOTALL)[1])  # type: ignore[index]
    bars = [re.findall(r'<rect[^>]* class="(\w+)"', row) for row in rows]
    assert bars == [["off", "good", "bad"], ["off", "good", "bad", "bad", "bad"]]
    assert "1: lost, " in rows[1]
    texts = re.findall(r"</time><span[^>]*>(.*?)</span>", document)
    assert texts == ["rank 1 is lost", "the Unit serves", "rank 1 joined", "rank 0 joined"]


@in_loop
async def test_a_page_of_the_store_begins_with_its_units(tmp_path: Path) -> None:
    async with serving(FakeAnswers(page="store", shown=shown()), units=FakeHistory()) as port:
        document = await load(tmp_path, port, "#u")
    assert document.index('id="others"') < document.index('id="seen"')
    assert "◐ running" in find(document, "units")  # it is not ready, so not green
    assert "[fd00::1]:8000" in find(document, "units")
    assert find(document, "name") == "u"


@in_loop
async def test_a_pause_of_restarts_is_in_the_band(tmp_path: Path) -> None:
    pause = {"until": time.time() + 600, "by": HOSTILE, "reason": "new cables"}
    async with serving(ChangingAnswers(stories=(shown(), shown(pause=pause))), units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert '<div id="band" class="busy">' in document
    assert "ready; restarts are paused for 10 min more, asked by &lt;/td&gt;" in find(document, "summary")
    assert "no restarts until " in find(document, "pause")
    async with serving(FakeAnswers(shown=shown()), units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert '<p id="pause" hidden="">' in document


@in_loop
async def test_the_phases_of_a_start_are_shown_where_they_are_known(tmp_path: Path) -> None:
    told = {"message": "rank 0's engine started in 6.0 s", "phases": {"kv_cache": 5.25, "server": 0.75}}
    async with serving(FakeAnswers(shown=shown(engine=told)), units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert find(document, "engine") == "rank 0's engine started in 6.0 s"
    assert "<dt>kv cache</dt><dd>5.3 s</dd>" in document
    async with serving(FakeAnswers(shown=shown(engine=None)), units=FakeHistory()) as port:
        document = await load(tmp_path, port)
    assert re.search(r'<section id="started"[^>]* hidden="">', document)


class LostHistory(FakeHistory):
    """The history of a store that is gone after this many reads; then the agent knows the last event."""

    def __init__(self, reads: int, *events: dict[str, Any]) -> None:
        super().__init__(*events)
        self.left = reads

    async def read_events(self, name: str) -> dict[str, Any]:
        self.left -= 1
        if self.left >= 0:
            return await super().read_events(name)
        return {"now": time.time(), "events": [self.events[-1]], "trouble": HOSTILE}


@pytest.mark.parametrize(("reads", "known"), [(1, 2), (0, 1)])
@in_loop
async def test_while_the_store_is_away_the_history_is_what_is_known(
    tmp_path: Path, reads: int, known: int
) -> None:
    story = event(9, 0, "ready", None, "the Unit serves"), event(5, 1, "store-lost", None, "rank 1 lost it")
    async with serving(FakeAnswers(shown=shown()), units=LostHistory(reads, *story)) as port:
        document = await load(tmp_path, port, seconds=2000 if reads else 200)
    assert len(re.findall(r"</time><span", document)) == known
    drawn = document.partition('id="history">')[2].partition("</tbody>")[0]
    assert drawn.count("<tr>") == known, "it draws the ranks that it knows of"
    assert "This is only what this agent knows of the history: &lt;/td&gt;" in find(document, "past-trouble")
