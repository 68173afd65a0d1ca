"""Requests through HAProxy to two Units, while these are updated, drained, crashed and lost.

A client sends at a steady rate, every other request on a connection that is kept, every tenth of 3 s, to a
workload that cuts its requests on SIGTERM. HAProxy has the configurations of docker/: one asks every instance
for /traffic, one by agent-check, one is fed by `unitagent endpoints`. No request is sent twice by the client.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import figures  # noqa: E402

from tests.traffic import stories  # noqa: E402
from tests.traffic.stories import BY, Story, stage  # noqa: E402

TOLD = (
    stories.hiccup,
    stories.crash,
    stories.loss,
    stories.update,
    stories.drain,
)  # the drain leaves one Unit


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--rounds", type=int, default=3, help="fresh starts of all (default 3)")
    chosen = options.parse_args()
    found = {by: [story for _ in range(chosen.rounds) for story in _round(by)] for by in BY}
    figures.publish(chosen, {"traffic": _document(found)}, lambda: _table(found))
    return 1 if any(story.dropped for told in found.values() for story in told) else 0


def _round(by: str) -> list[Story]:
    told = []
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder), by) as on:
        for tell in TOLD:
            told.append(tell(on))
            story = told[-1]
            figures.progress(f"{by}, {story.numbers}")
            if story.dropped:
                figures.progress(on.balancer.said)
    return told


def _cells(told: list[Story]) -> tuple[int, int, int]:
    """Requests, failed ones that were on a crashed Unit, and failed ones without an excuse."""
    return (
        sum(len(story.client.results) for story in told),
        sum(len(story.excused) for story in told),
        sum(len(story.dropped) for story in told),
    )


def _document(found: dict[str, list[Story]]) -> dict[str, object]:
    names = ("requests", "failed on the crashed Unit", "failed otherwise")
    return {
        f"{by}, {tell.__name__}": dict(zip(names, _cells(_of(told, tell.__name__)), strict=True))
        for by, told in found.items()
        for tell in TOLD
    }


def _of(told: list[Story], name: str) -> list[Story]:
    return [story for story in told if story.name == name]


def _table(found: dict[str, list[Story]]) -> str:
    header = ["HAProxy by", "what happens", "requests", "failed on the crashed Unit", "failed otherwise"]
    rows = [
        [by, tell.__name__, *map(str, _cells(_of(told, tell.__name__)))]
        for by, told in found.items()
        for tell in TOLD
    ]
    return figures.table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
