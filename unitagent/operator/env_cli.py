"""``unitagent env``: every setting of this instance, and where its value comes from. Starts nothing.

Of an instance without rank or size, which cannot start yet, it shows what is known.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from unitagent.settings import Resolved
from unitagent.settings.variables import VARIABLES


@dataclass(frozen=True, slots=True)
class Discovered:
    """What follows from this machine and from COMMAND instead of the settings.

    Attributes:
        trouble: why interface and address are unknown.
        asked: rank 0's health check; empty if unknown.
        port: where rank 0's workload takes requests.

    """

    ifname: str = ""
    ip: str = ""
    trouble: str = ""
    asked: str = ""
    port: str = ""


def find_missing(problems: Iterable[str]) -> frozenset[str]:
    """Find the variables that these problems, as ``settings.validation`` describes them, call missing."""
    subjects = (problem.partition(" missing: ") for problem in problems)
    names = (name for subject, missing, _ in subjects if missing for name in subject.split(" and "))
    return frozenset(VARIABLES) & frozenset(names)


def format_settings(
    resolved: Resolved, form: str, here: Discovered, missing: Container[str] = frozenset()
) -> str:
    """Format the settings as shell assignments with their sources as comments, or as one JSON object."""
    seen = {"COMM_IFNAME": here.ifname, "RANK_IP": here.ip, "UNIT_TRAFFIC_PORT": here.port}
    rows = {
        name: (
            text or seen.get(name, ""),
            f"missing: must be {VARIABLES[name].kind.accepted}"
            if name in missing
            else _describe_source(name, resolved, here),
        )
        for name, text in resolved.texts.items()
    }
    return _format_json(rows) if form == "json" else _format_shell(rows)


def _describe_source(name: str, resolved: Resolved, here: Discovered) -> str:
    """Describe the source of a value; for an unset variable, what is discovered now or at a start.

    A platform's values are already among the settings.
    """
    source, known = resolved.sources[name], VARIABLES[name].known
    if source != "not set" or not known or known == "from the platform":
        return source
    if name == "UNIT_TRAFFIC_PORT" and here.port:
        return f"found: {known}"
    if name == "UNIT_HEALTH_URL" and here.asked:
        return f"{source}; check at rank 0: {here.asked}"
    if name not in ("COMM_IFNAME", "RANK_IP"):
        return f"{source}; default {known}"
    return f"{source}; not found now: {here.trouble}" if here.trouble else f"found: {known}"


def _format_shell(rows: Mapping[str, tuple[str, str]]) -> str:
    lines = [f"{name}={shlex.quote(text)}" for name, (text, _) in rows.items()]
    width = max(map(len, lines), default=0)
    sources = [source for _, source in rows.values()]
    return "\n".join(f"{line:<{width}}  # {source}" for line, source in zip(lines, sources, strict=True))


def _format_json(rows: Mapping[str, tuple[str, str]]) -> str:
    return json.dumps(
        {name: {"value": text or None, "source": source} for name, (text, source) in rows.items()}, indent=2
    )
