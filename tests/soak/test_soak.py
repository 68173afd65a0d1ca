"""A Unit that restarts again and again does not grow, and a leak would be noticed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.growth import ALLOWED, Look, judge

SCRIPT = Path(__file__).parents[2] / "scripts" / "soak.py"
STEADY = Look(restarts=0, memory=33_000, files=15, threads=4, entries=6)


def looks(**rising: float) -> list[Look]:
    """360 looks with some noise, and what rises by so much with each restart."""
    chance = random.Random(1)
    seen = []
    for number in range(360):
        now = {measure: getattr(STEADY, measure) + rising.get(measure, 0.0) * number for measure in ALLOWED}
        now["memory"] += chance.uniform(-300, 300)
        now["files"] += chance.randrange(2)
        seen.append(replace(STEADY, restarts=number, **now))
    return seen


def test_noise_and_a_start_are_no_growth() -> None:
    start = [replace(STEADY, restarts=number, memory=20_000 + 500 * number) for number in range(20)]
    later = [replace(look, restarts=look.restarts + 20) for look in looks()]
    assert all(one.flat for one in judge([*start, *later]).values())


@pytest.mark.parametrize(("steps", "flat"), [((200,), True), ((120, 240), False)])
def test_one_step_of_the_interpreters_table_is_no_growth(steps: tuple[int, ...], flat: bool) -> None:
    calm = [replace(STEADY, restarts=number, memory=33_000 + number % 7) for number in range(360)]
    stepped = [
        replace(look, memory=look.memory + 950 * sum(look.restarts > step for step in steps)) for look in calm
    ]
    assert judge(stepped)["memory"].flat is flat


@pytest.mark.parametrize(
    ("measure", "rise"), [("memory", 8.0), ("files", 0.02), ("threads", 0.02), ("entries", 0.02)]
)
def test_a_leak_is_noticed(measure: str, rise: float) -> None:
    found = judge(looks(**{measure: rise}))
    assert {name for name, one in found.items() if not one.flat} == {measure}


@pytest.mark.slow
@pytest.mark.alone
def test_a_short_run_is_flat() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--minutes", "1.2", "--every", "3", "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=115, check=False,
    )  # fmt: skip
    figures = json.loads(done.stdout)
    assert done.returncode == 0, figures
    assert figures["restarts"] >= 10
