"""All benchmarks, one after the other, with their peers and floors in the same run; see ../bench.sh.

Writes figures.json, FIGURES.md and one picture for each table to a folder, and prints each figure with its
ratio to the committed one in brackets: [0.90 x] is a tenth less. A benchmark that crashes is told and the
rest goes on; no figure, however bad, is a failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import figures

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COMMITTED, PAGE = HERE / "figures.json", HERE / "FIGURES.md"
PAINTER = ROOT / ".venv-bench" / "bin" / "python"  # has matplotlib

ALL = ("restart", "startup", "idle", "fleet", "barrier", "heartbeat")
BY_NAME = (
    "large_unit",
    "traffic",
    "bad_line",
    "vllm",
)  # minutes each, or in need of more than bench.sh sets up

Tables = dict[str, Any]


def main() -> int:
    options = argparse.ArgumentParser(
        prog="scripts/bench.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="few samples, small sizes: minutes")
    options.add_argument(
        "--only", nargs="+", metavar="NAME", choices=ALL + BY_NAME, default=ALL,
        help=f"some of {' '.join(ALL)}, and by name only {' '.join(BY_NAME)}",
    )  # fmt: skip
    options.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="(default build/bench)")
    options.add_argument("--commit", action="store_true", help=f"take the figures over to {COMMITTED.name}")
    options.add_argument("--page", action="store_true", help=f"only write {PAGE.name} from {COMMITTED.name}")
    chosen = options.parse_args()
    if not chosen.page:
        return _run(chosen)
    PAGE.write_text(page(read(COMMITTED)), encoding="utf-8")
    return 0


def _run(chosen: argparse.Namespace) -> int:
    chosen.out.mkdir(parents=True, exist_ok=True)
    last, tables, crashed = read(COMMITTED), Tables(), []
    for name in chosen.only:
        found = _measure(name, chosen)
        tables |= found
        crashed += [] if found else [name]
        for table, document in found.items():
            print(figures.markdown(document, last.get(table)), end="\n\n", flush=True)
    _write(chosen.out / "figures.json", tables)
    (chosen.out / "FIGURES.md").write_text(page(tables), encoding="utf-8")
    _paint(chosen.out)
    if chosen.commit:
        _write(COMMITTED, last | tables)
        PAGE.write_text(page(last | tables), encoding="utf-8")
    if crashed:
        print(f"bench: crashed: {' '.join(crashed)}", file=sys.stderr)
    return 1 if crashed else 0


def _measure(name: str, chosen: argparse.Namespace) -> Tables:
    """Run one benchmark; nothing where it has crashed."""
    file = chosen.out / f"{name}.json"
    file.unlink(missing_ok=True)
    argv = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
    quick = ["--quick"] if chosen.quick else []
    subprocess.run([*argv, *quick], check=False, stdout=subprocess.DEVNULL)
    return read(file)


def _paint(folder: Path) -> None:
    if PAINTER.exists():
        subprocess.run([PAINTER, HERE / "pictures.py", folder], check=False)
    else:
        print(
            f"bench: no pictures without {PAINTER.relative_to(ROOT)}, see scripts/bench.sh", file=sys.stderr
        )


def read(file: Path) -> Tables:
    """The tables of a file; none where there is no such file."""
    found: Tables = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _write(file: Path, tables: Tables) -> None:
    file.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


def page(tables: Tables) -> str:
    """The tables as a page of Markdown, in the order in which they are measured."""
    names = [name for name in ALL + BY_NAME if name in tables]
    parts = [f"## {name}\n\n{figures.markdown(tables[name])}\n" for name in names]
    head = "# Figures\n\nMade by `scripts/bench.sh` from `figures.json`: median (smallest-largest).\n"
    return "\n".join([head, *parts])


if __name__ == "__main__":
    sys.exit(main())
