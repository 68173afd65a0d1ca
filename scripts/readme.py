"""Keep the README's tables of variables the program's own: ``readme.py`` writes, ``--check`` compares.

A table stands between two comments of the README, ``<!-- variables -->`` and ``<!-- /variables -->``.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from unitagent.settings.variables import GROUPS, Variable

README = Path(__file__).resolve().parents[1] / "README.md"
_PLACE = re.compile(r"(?<=<!-- variables -->\n).*?(?=<!-- /variables -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the README differs")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    wanted, places = _PLACE.subn(lambda _: tables(), text)
    if places != 1:
        sys.exit(f"{README.name}: one place for the table is needed, there are {places}")
    if options.check:
        return _compare(text, wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


def _compare(text: str, wanted: str) -> int:
    if text == wanted:
        return 0
    print(f"{README.name} differs from the table of variables: run scripts/readme.py", file=sys.stderr)
    return 1


def tables() -> str:
    """One table for each group."""
    return "\n".join(_table(title, rows) for title, rows in GROUPS.items())


def _table(title: str, rows: tuple[Variable, ...]) -> str:
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


if __name__ == "__main__":
    sys.exit(main())
