"""Samples to tables: medians with their range, never an average, and where they were measured.

A table is JSON first: ``{"title", "rows", "columns": {name: unit}, "cells": {row: {column: summary}},
"note"}``. Markdown, pictures and the comparison with the last figures are made from that and from nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """What one benchmark has measured.

    Attributes:
        title: one line that says what is measured.
        rows: what a row stands for.
        columns: the unit of each column; "x" marks a ratio.
        note: what a reader has to know beside the title.

    """

    title: str
    rows: str
    columns: Mapping[str, str]
    note: str = ""
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, row: object, column: str, *values: float) -> None:
        """Add samples to a cell."""
        self.samples.setdefault(str(row), {}).setdefault(column, []).extend(values)

    def median(self, row: object, column: str) -> float:
        """The median of a cell."""
        return statistics.median(self.samples[str(row)][column])

    def add_ratio(self, row: object, column: str, over: str, under: str) -> None:
        """Add the ratio of two cells' medians."""
        self.add(row, column, self.median(row, over) / self.median(row, under))

    def document(self) -> dict[str, Any]:
        """Return the table as JSON has it."""
        return {
            "title": self.title,
            "rows": self.rows,
            "columns": dict(self.columns),
            "cells": {
                row: {column: summary(values) for column, values in cells.items()}
                for row, cells in self.samples.items()
            },
            "note": self.note,
        }


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Median, range and number."""
    low, middle, high = min(samples), statistics.median(samples), max(samples)
    return {
        "median": float(f"{middle:.4g}"),
        "min": float(f"{low:.4g}"),
        "max": float(f"{high:.4g}"),
        "n": len(samples),
    }


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample that ``percent`` of all samples do not exceed."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * percent / 100))]


def number(value: float) -> str:
    """Three significant digits, in a form that people read."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def shown(cell: Mapping[str, Any] | None, last: Mapping[str, Any] | None = None) -> str:
    """One cell: median (min-max), and in brackets its ratio to the last one."""
    if cell is None:
        return ""
    text = number(cell["median"])
    if cell["n"] > 1:
        text += f" ({number(cell['min'])}-{number(cell['max'])})"
    if last and last["median"]:
        text += f" [{cell['median'] / last['median']:.2f} x]"
    return text


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def markdown(table: Mapping[str, Any], last: Mapping[str, Any] | None = None) -> str:
    """A table with its title and where it was measured; with ratios to the last figures where given."""
    before = (last or {}).get("cells", {})
    header = [
        table["rows"],
        *(f"{name}, {unit}" if unit else name for name, unit in table["columns"].items()),
    ]
    rows = [
        [row, *(shown(cells.get(name), before.get(row, {}).get(name)) for name in table["columns"])]
        for row, cells in table["cells"].items()
    ]
    counts = sorted({cell["n"] for cells in table["cells"].values() for cell in cells.values()})
    samples = "-".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "0"
    about = table["machine"]
    measured = (
        f"{about['date']}, {about['cores']} cores, {about['system']}, Python {about['python']}, "
        f"load {about['load']} at the end; {samples} samples in each cell."
    )
    parts = [f"**{table['title']}**", _grid(header, rows), *filter(None, (table["note"],)), measured]
    return "\n\n".join(parts)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has. When asked to end, it ends what it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="few samples, small sizes")
    made.add_argument("--json", metavar="FILE", type=Path, help="write the tables there as well")
    return made


def publish(options: argparse.Namespace, **tables: Table) -> None:
    """Print the tables, and write them to a file where one was named."""
    where = machine()
    documents = {name: table.document() | {"machine": where} for name, table in tables.items()}
    for document in documents.values():
        print(markdown(document), end="\n\n")
    if options.json:
        options.json.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")


def progress(text: str) -> None:
    """Say on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
