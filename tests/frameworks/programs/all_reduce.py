"""Two processes of each instance add up their shares, over and over, and note every sum.

A process's share is made of its own rank, the step and the generation, so that a sum is right only when
exactly the processes of this generation took part, all at the same step.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch  # type: ignore[import-not-found]  # it lives in the environment of the frameworks
from torch import distributed

_PAUSE = 0.1


def note(event: str, **more: object) -> None:
    """Append one line in one write: whoever reads it meanwhile sees all of it or nothing."""
    name = f"{os.environ['LAB_HOST']}-{os.environ['LOCAL_RANK']}.jsonl"
    line = {"event": event, "at": time.monotonic(), "process": distributed.get_rank(), **more}
    line |= {"rank": int(os.environ["RANK_ID"]), "generation": int(os.environ["UNIT_GENERATION"])}
    with (Path(os.environ["LAB_EVENTS"]) / name).open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    distributed.init_process_group("gloo")
    generation = int(os.environ["UNIT_GENERATION"])
    step = 0
    while True:
        step += 1
        share = torch.tensor([(distributed.get_rank() + 1) * step * generation])
        distributed.all_reduce(share)
        note("sum", step=step, sum=share.item(), world=distributed.get_world_size())
        time.sleep(_PAUSE)


main()
