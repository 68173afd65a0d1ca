"""Keep the READMEs' generated tables in step with the program: write them, or compare them (``--check``).

A table stands between two comments of a page, such as ``<!-- variables -->`` and ``<!-- /variables -->``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from unitagent.core.model import Reason
from unitagent.core.probe_paths import PROBES
from unitagent.probes.metrics import Gauges, Metrics
from unitagent.settings.variables import GROUPS, Variable

PACKAGE = Path(__file__).resolve().parents[1] / "unitagent"
VARIABLES, OPERATOR = PACKAGE / "settings" / "README.md", PACKAGE / "operator" / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a page differs")
    options = parser.parse_args()
    differing = [
        page for page, name, table in TABLES if not _keep(page, name, table, write=not options.check)
    ]
    for page in differing:
        print(f"{page} differs from the program: run scripts/readme.py", file=sys.stderr)
    return 1 if differing else 0


def _keep(page: Path, name: str, table: Callable[[], str], *, write: bool) -> bool:
    """Whether the table of this name is up to date in ``page``, afterwards."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    wanted, places = place.subn(lambda _: table(), text)
    if places != 1:
        sys.exit(f"{page}: needs one place for the table of {name}, has {places}")
    if write:
        page.write_text(wanted, encoding="utf-8")
    return write or text == wanted


def variables() -> str:
    """One table for each group."""
    return "\n".join(_group(title, rows) for title, rows in GROUPS.items())


def _group(title: str, rows: tuple[Variable, ...]) -> str:
    lines = [f"| {title} | flag | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{row.name}` | {_flag(row)} | {_default(row)} | {_meaning(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _flag(row: Variable) -> str:
    return f"`{row.flag}`" if row.flag else "none: a command line can be read by others"


def _default(row: Variable) -> str:
    if row.known:
        return row.known
    return f"`{row.default}`" if row.default else "none"


def _meaning(row: Variable) -> str:
    return f"{row.meaning}; {row.kind.accepted}".replace("|", "\\|")


def probes() -> str:
    """A row for each probe."""
    lines = ["| path | `unitagent probe` | 200 when | otherwise |", "| --- | --- | --- | --- |"]
    for probe in PROBES:
        paths = ", ".join(f"`{path}`" for path in probe.paths)
        lines.append(f"| {paths} | `{probe.word}` | {probe.passes} | {probe.otherwise} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """All that ``/metrics`` answers for the status that the page shows, once everything has happened."""
    counts = Metrics(0)
    counts.observe_restart(Reason.EXIT, 0)
    counts.observe_exit(0)
    counts.observe_recovery(1.0, dict.fromkeys(("detect", "stop", "barrier", "start", "ready"), 0.2))
    counts.observe_reaped()
    counts.observe_store_error()
    counts.observe_store_contact(0.0)
    process = {"pid": 1, "cpu_seconds": 0.0, "memory_bytes": 0, "threads": 1, "open_files": 0}
    gauges = Gauges(requests_in_flight=1, processes=[process])
    text = counts.render_text(_example(), 0.0, gauges).decode()
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    ours = (one for one in text_string_to_metric_families(text) if one.name.startswith("unitagent_"))
    lines += map(_row, sorted(ours, key=lambda family: family.name))
    return "\n".join(lines) + "\n"


def _example() -> dict[str, object]:
    (example,) = re.findall(
        r"^```json\n(.*?)^```$", OPERATOR.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    status: dict[str, object] = json.loads(example)
    return status


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    named = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}` | {family.type} | {named} | {family.documentation} |"


TABLES: tuple[tuple[Path, str, Callable[[], str]], ...] = (
    (VARIABLES, "variables", variables),
    (OPERATOR, "probes", probes),
    (OPERATOR, "metrics", metrics),
)

if __name__ == "__main__":
    sys.exit(main())
