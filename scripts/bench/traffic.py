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

COUNTED = ("requests", "failed on the crashed Unit", "failed otherwise")


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--rounds", type=int, help="fresh starts of all (default 3; --quick: 1)")
    chosen = options.parse_args()
    found = {
        by: [story for _ in range(chosen.rounds or (1 if chosen.quick else 3)) for story in _round(by)]
        for by in BY
    }
    figures.publish(chosen, traffic=_table(found))
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


def _table(found: dict[str, list[Story]]) -> figures.Table:
    table = figures.Table(
        "Requests through HAProxy to two Units", "HAProxy by, what happens", dict.fromkeys(COUNTED, "")
    )
    for by, told in found.items():
        for name in dict.fromkeys(story.name for story in told):
            counts = _cells([story for story in told if story.name == name])
            for column, count in zip(COUNTED, counts, strict=True):
                table.add(f"{by}, {name}", column, count)
    return table


if __name__ == "__main__":
    sys.exit(main())
