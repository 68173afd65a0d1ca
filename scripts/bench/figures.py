"""Samples to figures: medians with their range, never an average, and where they were measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Samples = Mapping[str, Sequence[float]]


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Median, range and the samples themselves."""
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "n": len(samples),
        "samples": [round(sample, 6) for sample in samples],
    }


def shown(samples: Sequence[float], digits: int = 3) -> str:
    """One cell: median (min-max) n."""
    middle, low, high = (
        f"{value:.{digits}f}" for value in (statistics.median(samples), min(samples), max(samples))
    )
    return f"{middle} ({low}-{high}) n={len(samples)}"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, for a terminal and for Markdown."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in everything]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", metavar="FILE", help="write every sample there; - for standard output")
    return made


def publish(options: argparse.Namespace, found: Mapping[str, Any], text: Callable[[], str]) -> None:
    """Print the table, and write the samples where they were asked for."""
    document = json.dumps({"machine": machine(), **found}, indent=2)
    if options.json == "-":
        print(document)
        return
    about = machine()
    print(f"{about['date']}, {about['cores']} cores, {about['system']}, Python {about['python']}")
    print(text())
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123 (a name from the command line)
            file.write(document + "\n")


def progress(text: str) -> None:
    """Say on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
