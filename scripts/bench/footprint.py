"""What one agent costs: memory and start-up, against torchrun, on this machine.

Start-up: from exec to the start of the worker of a Unit of one instance (unitagent with its embedded store,
torchrun with its c10d store), and the run of `unitagent --version`; the floor is the worker alone.
Memory: of the launcher alone and with its other processes (the embedded store), not of the worker, some
seconds after the start. PSS counts shared pages in parts, USS not at all.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import figures
import launchers

KINDS = ("unitagent", "torchrun", "bare")
MEASURES = ("Pss", "Rss", "Uss")
Costs = dict[str, list[float]]


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("--rounds", type=int, default=9, help="starts of each (default 9)")
    options.add_argument(
        "--settle", type=float, default=3.0, help="seconds before memory is read (default 3)"
    )
    chosen = options.parse_args()
    launchers.require_torchrun()
    found: dict[str, Costs] = {kind: {} for kind in KINDS}
    for number in range(chosen.rounds):
        figures.progress(f"round {number + 1} of {chosen.rounds}")
        for kind in KINDS:
            _measure(kind, chosen.settle, found[kind])
        _add(found["unitagent"], "version", _version())
    figures.publish(chosen, {"footprint": _document(found)}, lambda: _tables(found))
    return 0


def _measure(kind: str, settle: float, costs: Costs) -> None:
    with tempfile.TemporaryDirectory() as folder:
        group = launchers.LAUNCHERS[kind](1, Path(folder) / kind)
        try:
            worker = group.started(1)[0]
            _add(costs, "start", worker.at - group.begun)
            if kind == "bare":
                return
            launcher = group.launchers[0].pid
            everyone = [launcher, *(pid for pid in _descendants(launcher) if pid != worker.pid)]
            _add(costs, "cpu", sum(map(_cpu, everyone)))
            time.sleep(settle)
            for measure in MEASURES:
                _add(costs, measure, _memory(launcher)[measure])
                _add(costs, f"{measure} all", sum(_memory(pid)[measure] for pid in everyone))
        finally:
            group.stop()


def _add(costs: Costs, name: str, value: float) -> None:
    costs.setdefault(name, []).append(value)


def _version() -> float:
    begun = time.perf_counter()
    subprocess.run([launchers.UNITAGENT, "--version"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, which another load on the machine changes little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, float]:
    """MB of one process, as the kernel rolls them up."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    kilobytes["Uss"] = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {measure: kilobytes[measure] * 1024 / 1e6 for measure in MEASURES}


def _document(found: Mapping[str, Costs]) -> dict[str, object]:
    return {
        kind: {name: figures.summary(samples) for name, samples in costs.items()}
        for kind, costs in found.items()
    }


def _tables(found: Mapping[str, Costs]) -> str:
    rows = [_row("exec to worker started, s", "start", 3, found)]
    rows += [_row("CPU until then, s", "cpu", 2, found)]
    rows += [_row(f"{name.upper()} of the agent, MB", name, 1, found) for name in MEASURES]
    rows += [_row(f"{name.upper()} with its store, MB", f"{name} all", 1, found) for name in MEASURES]
    text = figures.table(["", "unitagent", "torchrun", "ratio"], rows)
    floor, version = figures.shown(found["bare"]["start"]), figures.shown(found["unitagent"]["version"])
    return f"{text}\nthe worker alone: {floor} s; unitagent --version: {version} s"


def _row(title: str, name: str, digits: int, found: Mapping[str, Costs]) -> list[str]:
    ours, theirs = found["unitagent"][name], found["torchrun"][name]
    ratio = statistics.median(theirs) / statistics.median(ours)
    return [
        title,
        figures.shown(ours, digits),
        figures.shown(theirs, digits),
        f"{ratio:.1f} x",
    ]


if __name__ == "__main__":
    sys.exit(main())
