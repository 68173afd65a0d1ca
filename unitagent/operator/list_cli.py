"""``unitagent list``: all Units of a store, the worst first.

The registry names them; what is known of each stands in its own records, which are read a few at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from unitagent.core.model import format_age
from unitagent.core.observed_status import status_from_store
from unitagent.core.summary import BAD, BUSY, GOOD, OFF, summarize
from unitagent.operator.store_locator import find_store_url
from unitagent.operator.terminal import Column, Style, detect_style, format_columns
from unitagent.settings import Settings
from unitagent.store.address import LocationSource
from unitagent.store.protocol import RegistryRecord
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import (
    escape_json,
    escape_json_value,
    print_text,
    print_verbatim,
    print_warning,
)

_ASK = 2.0  # seconds for the store's answer
_AT_ONCE = 16  # Units
_WORST_FIRST = (BAD, BUSY, OFF, GOOD)
_COLUMNS = [
    Column("unit"),
    Column("service", spare=3),
    Column("phase"),
    Column("ready"),
    Column("restarts", right=True),
    Column("last failure", spare=1),
]
_PHASE = 2  # the column that is coloured
_EXPLAINED = 10  # Units


def show_units(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print all Units of the store as a table or as JSON."""
    units = asyncio.run(_load_units(settings, settings.keys))
    if namespace.json:
        print_verbatim(escape_json(json.dumps(units, indent=2)) + "\n")
    elif units:
        print_verbatim(format_units(units, time.time(), detect_style()) + "\n")
    else:
        print_text("the store has no Unit")
    return 0


async def _load_units(settings: Settings, keys: Keyring) -> list[dict[str, Any]]:
    """Load what is known of each Unit, worst first."""
    url = await asyncio.to_thread(find_store_url, settings, keys)
    registry = Registry(url, timeout=_ASK, keys=keys, warn=_warn)
    try:
        listed = (await registry.read()).units
    finally:
        await registry.close()
    turns = asyncio.Semaphore(_AT_ONCE)

    async def load(row: RegistryRecord) -> dict[str, Any] | None:
        async with turns:
            return await _load_unit(url, row, keys)

    units = [one for one in await asyncio.gather(*map(load, listed.values())) if one is not None]
    return sorted(units, key=lambda one: (_WORST_FIRST.index(one["severity"]), one["unit"]))


async def _load_unit(url: LocationSource, row: RegistryRecord, keys: Keyring) -> dict[str, Any] | None:
    """Load what is known of one Unit; None if its records have expired, which its line may outlive."""
    name = row.entry.unit
    store = RedisStore(name, url, timeout=_ASK, keys=keys, warn=_warn)
    try:
        snapshot = await store.read()
    finally:
        await store.close()
    if not (snapshot.records or snapshot.unlike):
        return None
    seen = status_from_store(name, snapshot, row.entry.lease)
    summary = summarize(seen, time.time())
    return {
        "unit": name,
        "service": row.entry.service,
        "phase": seen["phase"],
        "ready": seen["ready"],
        "severity": summary["severity"],
        "message": summary["message"],
        "generation": seen["generation"],
        "restarts": seen["restarts"],
        "failure": seen["failure"],
        "pause": seen["pause"],
    }


def format_units(units: list[dict[str, Any]], now: float, style: Style) -> str:
    """Format the table; on a narrow terminal it loses the service, then the last failure. Below it the worst
    Units say what is wrong.
    """
    units = escape_json_value(units)

    def paint(row: int, column: int, text: str) -> str:
        return style.paint(text, units[row]["severity"]) if column == _PHASE else text

    lines = format_columns(_COLUMNS, [_make_row(one, now) for one in units], style, paint)
    troubled = [one for one in units if one["severity"] in (BAD, BUSY)]
    for one in troubled[:_EXPLAINED]:
        lines += style.wrap(f"{one['unit']}: {one['message']}")
    if len(troubled) > _EXPLAINED:
        lines.append(f"and {len(troubled) - _EXPLAINED} more; `unitagent status --unit NAME` says why")
    return "\n".join(lines)


def _warn(text: str) -> None:
    print_warning(f"warning: {text}")


def _make_row(one: dict[str, Any], now: float) -> list[str]:
    failure = one["failure"]
    last = "-"
    if failure:
        last = f"{failure['reason']} at rank {failure['rank']}, {format_age(now - failure['at'])} ago"
    ready = "yes" if one["ready"] else "no"
    phase = f"{one['phase']}, paused" if one["pause"] else one["phase"]
    return [one["unit"], one["service"], phase, ready, str(one["restarts"]), last]
