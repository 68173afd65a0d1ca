"""One actor on every node of the Ray cluster; all of them answer, over and over, and each round is noted.

An actor tells rank and generation of the instance it runs in: a round is right when every rank answered once,
and all of one generation.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import ray  # type: ignore[import-not-found]  # it lives in an environment of its own
from ray.util.scheduling_strategies import (  # type: ignore[import-not-found]
    NodeAffinitySchedulingStrategy,
)

_PAUSE = 0.2


class Member:
    def answer(self) -> list[int]:
        return [int(os.environ["RANK_ID"]), int(os.environ["UNIT_GENERATION"])]


def members() -> list[Any]:
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    actor = ray.remote(num_cpus=0)(Member)
    pinned = (NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes)
    return [actor.options(scheduling_strategy=strategy).remote() for strategy in pinned]


def note(event: str, **more: object) -> None:
    """Append one line in one write: whoever reads it meanwhile sees all of it or nothing."""
    line = {"event": event, "at": time.monotonic(), **more}
    line |= {"rank": int(os.environ["RANK_ID"]), "generation": int(os.environ["UNIT_GENERATION"])}
    with (Path(os.environ["LAB_EVENTS"]) / f"{os.environ['LAB_HOST']}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    ray.init()
    actors = members()
    while True:
        note("round", answers=sorted(ray.get([actor.answer.remote() for actor in actors])))
        time.sleep(_PAUSE)


main()
