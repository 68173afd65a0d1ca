"""A rank of real torch.distributed over gloo: after some sums one rank stays away from the next one.

Usage: hang.py ODD HOW PATH: rank ODD reads PATH, spins, or stops itself; the others wait in all_reduce.
"""

import os
import signal
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
import torch.distributed as dist  # type: ignore[import-not-found]

odd, how, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
rank, size = int(os.environ["RANK_ID"]), int(os.environ["UNIT_SIZE"])


def read_model(path: str) -> bytes:
    with open(path, "rb") as model:  # noqa: PTH123 (one frame, and no more)
        return model.read()


def spin() -> None:
    while True:
        pass


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def step(number: int) -> None:
    if number == 3 and rank == odd and os.environ["UNIT_GENERATION"] == "1":
        {"open": lambda: read_model(path), "spin": spin, "stop": stop}[how]()
    total = torch.ones(1)
    dist.all_reduce(total)
    assert total.item() == size


def serve() -> None:
    dist.init_process_group("gloo", rank=rank, world_size=size)
    number = 0
    while True:
        number += 1
        step(number)
        if number == 2:
            Path(f"{path}.{os.environ['UNIT_GENERATION']}.{rank}").touch()


serve()
