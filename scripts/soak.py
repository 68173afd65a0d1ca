"""A Unit that restarts again and again must not grow: memory, open files, threads and entries in the store.

``soak.py --minutes 30`` runs a real Unit on this machine, kills the workload of one rank every few seconds,
and looks at every agent each time the Unit is ready again. Exits 1 when something grew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.soak.growth import Look, judge, table
from tests.soak.unit import Unit, soak


def main() -> int:
    """Run, and print the verdict."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        unit = Unit(Path(folder), options.size)
        try:
            looks = soak(unit, 60 * options.minutes, options.every, _tell)
        finally:
            unit.close()
    found, restarts = judge(looks), looks[-1].restarts
    figures = {measure: asdict(one) for measure, one in found.items()}
    print(json.dumps({"restarts": restarts, **figures}, indent=1) if options.json else table(found, restarts))
    return 0 if all(one.flat for one in found.values()) else 1


def _tell(look: Look) -> None:
    words = f"{look.files:g} files, {look.threads:g} threads, {look.entries:g} entries"
    print(f"{look.restarts:>6} restarts: {look.memory:g} KiB, {words}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills (default 5)")
    parser.add_argument("--size", type=int, default=3, help="instances (default 3)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
