"""Simulate: ``simulate.py --seeds 20000 [--jobs 2]``; tell one story: ``simulate.py --seed 17 --story``; look
for a world that tells each mutant of the core apart: ``simulate.py --mutants [--seeds 500]``. Only with
``--profile moments`` do faults follow what an agent has just decided.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.keeper_worlds import simulate_keepers
from tests.simulation.mutants import MUTANTS, kill_mutant
from tests.simulation.plan import Profile
from tests.simulation.run import Outcome, simulate


def main() -> int:
    """Exit 1 when a seed broke a guarantee."""
    options = _parse_options()
    if options.seed is not None:
        live = simulate_keepers if options.keepers else simulate
        outcome = live(options.seed, told=options.story, **_list_changes(options.profile))
        print(*outcome.story, sep="\n")
        print(outcome.plan, *outcome.violations, f"well after {outcome.healed:.1f} s", sep="\n")
        return 1 if outcome.violations else 0
    if options.mutants:
        return _hunt_mutants(range(options.start, options.start + options.seeds), options.jobs)
    live = partial(simulate_keepers if options.keepers else simulate, **_list_changes(options.profile))
    return _simulate_many(range(options.start, options.start + options.seeds), options.jobs, live)


def _list_changes(profile: str | None) -> dict[str, Any]:
    return {"profile": Profile(profile)} if profile else {}


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="one seed only")
    parser.add_argument(
        "--profile", choices=list(Profile), help="this kind of trouble, whatever a seed draws"
    )
    parser.add_argument("--keepers", action="store_true", help="with keepers, in worlds that accept them")
    parser.add_argument("--story", action="store_true", help="tell it")
    parser.add_argument("--mutants", action="store_true", help="find the seed that kills each mutant")
    return parser.parse_args()


def _hunt_mutants(seeds: range, jobs: int) -> int:
    alive = 0
    with Pool(jobs) as pool:
        hunts = ((number, seeds) for number in range(len(MUTANTS)))
        for number, seed, broken in pool.imap_unordered(_hunt_mutant, hunts, chunksize=1):
            alive += seed is None
            print(
                f"{MUTANTS[number].wrong}: {'ALIVE' if seed is None else f'seed {seed}: {broken}'}",
                flush=True,
            )
    return 1 if alive else 0


def _hunt_mutant(what: tuple[int, range]) -> tuple[int, int | None, str]:
    """The number of a mutant, the seed that kills it, and how."""
    number, seeds = what
    outcome = kill_mutant(MUTANTS[number], seeds)
    return (number, None, "") if outcome is None else (number, outcome.plan.seed, outcome.violations[0])


def _simulate_many(seeds: range, jobs: int, live: Callable[[int], Outcome]) -> int:
    begun = time.monotonic()
    bad: list[Outcome] = []
    healed: list[float] = []
    with Pool(jobs) as pool:
        for outcome in pool.imap(live, seeds, chunksize=5):
            healed.append(outcome.healed)
            if len(healed) % 1000 == 0:
                print(f"{len(healed)} of {len(seeds)} seeds", file=sys.stderr, flush=True)
            if outcome.violations:
                bad.append(outcome)
                print(
                    f"seed {outcome.plan.seed} ({outcome.plan.profile}): {outcome.violations[0]}", flush=True
                )
    rate = len(seeds) / (time.monotonic() - begun)
    kinds = Counter(
        violation.partition("[")[2].partition("]")[0] for one in bad for violation in one.violations[:1]
    )
    print(
        f"{len(seeds)} seeds, {len(bad)} bad, {rate:.0f} seeds/s, "
        f"slowest to heal {max(healed):.1f} s, {dict(kinds)}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
