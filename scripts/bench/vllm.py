"""A real vLLM of two instances under faults: how soon they are noticed, and when it serves again.

Runs the tests of tests/frameworks/test_vllm.py so many times, one Unit after the other, and tells for each
fault how many seconds after it both ranks' /readyz and rank 0's /traffic said no, the last vLLM was spawned
anew, and the first completion was there. Needs root and scripts/frameworks-venv.sh --vllm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import figures

TESTS = "tests/frameworks/test_vllm.py"
STEPS = ("detected", "restarted", "served")
ROOT = Path(__file__).parents[2]

Found = dict[str, dict[str, list[float]]]


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--rounds", type=int, help="of all faults (default 3; --quick: 1)")
    options.add_argument(
        "--warm", choices=("off", "auto", "first"), default="off", help="UNIT_WARM of the Units"
    )
    options.add_argument("-k", metavar="WORDS", default="", help="only such tests, as pytest takes it")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.jsonl"
        failed = [
            _round(file, chosen.k, chosen.warm) for _ in range(chosen.rounds or (1 if chosen.quick else 3))
        ].count(False)
        found = _read(file)
    figures.publish(chosen, vllm=_table(found))
    return min(failed, 1)


def _round(file: Path, words: str, warm: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", TESTS, "-k", words]
    environment = {**os.environ, "UNITAGENT_TIMES": str(file), "UNITAGENT_WARM": warm}
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode == 0


def _read(file: Path) -> Found:
    found: Found = defaultdict(lambda: defaultdict(list))
    for line in file.read_text().splitlines() if file.exists() else ():
        times = json.loads(line)
        for step in STEPS:
            found[times["fault"]][step].append(times[step])
    return found


def _table(found: Found) -> figures.Table:
    table = figures.Table("A real vLLM under faults", "fault", dict.fromkeys(STEPS, "s"))
    for fault, steps in found.items():
        for step, samples in steps.items():
            table.add(fault, step, *samples)
    return table


if __name__ == "__main__":
    sys.exit(main())
