"""Random faults against a Unit of 4 in network namespaces, with a real store, and a checker over it all.

``chaos.py --rounds 300 --seed 7 --report DIR`` writes ``chaos.json`` and ``chaos.svg`` there; needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.chaos.checker import violations
from tests.chaos.faults import KINDS
from tests.chaos.picture import picture
from tests.chaos.plan import Plan
from tests.chaos.report import report, table
from tests.chaos.run import run
from tests.chaos.sabotaged import SABOTAGES


def main() -> int:
    """Exit 1 when a guarantee was broken."""
    options = _options()
    if os.geteuid() != 0:
        print("network namespaces and process events need root", file=sys.stderr)
        return 2
    if options.keep and options.keep.exists() and any(options.keep.iterdir()):
        print(f"--keep {options.keep} is not empty: name another directory, or empty it", file=sys.stderr)
        return 2
    plan = Plan(
        rounds=options.rounds, seed=options.seed, kinds=options.kinds or tuple(KINDS), pairs=options.pairs,
        sabotage=options.sabotage,
    )  # fmt: skip
    folder = options.keep or Path(tempfile.mkdtemp(prefix="unitagent-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    history = run(plan, folder, lambda line: print(line, flush=True))
    figures = {"seed": plan.seed, "sabotage": plan.sabotage, **report(history, violations(history))}
    print(table(figures))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "chaos.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.report / "chaos.svg").write_text(picture(history))
    print(f"logs: {folder}")
    return 1 if figures["violations"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pairs", type=float, default=0.4, help="share of the rounds with two faults at once"
    )
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="only these faults")
    parser.add_argument("--sabotage", choices=list(SABOTAGES), default="", help="break the agents on purpose")
    parser.add_argument("--report", type=Path, help="directory for chaos.json and chaos.svg")
    parser.add_argument("--keep", type=Path, help="directory for the logs, an empty one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
