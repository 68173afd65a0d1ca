"""A picture for each table of figures.json in a folder: bars with their range, a part for each unit of
measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt


def paint(name: str, table: dict[str, Any], folder: Path) -> None:
    """Write one picture."""
    units: dict[str, list[str]] = {}
    for column, unit in table["columns"].items():
        units.setdefault(unit, []).append(column)
    figure, axes = plt.subplots(1, len(units), figsize=(5 * len(units), 4), squeeze=False)
    for (unit, columns), axis in zip(units.items(), axes[0], strict=True):
        _draw(axis, table["cells"], columns)
        axis.set_ylabel(unit)
        axis.set_xlabel(table["rows"])
    figure.suptitle(table["title"])
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=110)
    plt.close(figure)


def _draw(axis: Any, cells: dict[str, Any], columns: list[str]) -> None:
    width = 0.8 / len(columns)
    for number, column in enumerate(columns):
        found = [(place, row[column]) for place, row in enumerate(cells.values()) if column in row]
        middles = [cell["median"] for _, cell in found]
        below = [cell["median"] - cell["min"] for _, cell in found]
        above = [cell["max"] - cell["median"] for _, cell in found]
        places = [place + (number - (len(columns) - 1) / 2) * width for place, _ in found]
        axis.bar(places, middles, width, yerr=[below, above], capsize=2, label=column)
    axis.set_xticks(range(len(cells)), cells, rotation=30, ha="right")
    axis.legend(fontsize="small")


def main(folder: Path) -> None:
    for name, table in json.loads((folder / "figures.json").read_text(encoding="utf-8")).items():
        paint(name, table, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
