"""``unitagent evidence``: what the ranks have collected about a failed generation, compared, and fetched."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.evidence.comparison import compare_ranks
from unitagent.evidence.folder import MOST_BYTES, PIECE, is_valid_name
from unitagent.operator.evidence_client import EvidenceReader
from unitagent.operator.evidence_listing import list_ends, load_evidence
from unitagent.system.safe_output import escape_json, escape_line, print_text, print_verbatim, print_warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitagent.evidence.reports import RankEvidence
    from unitagent.operator.evidence_listing import Found, RankTable
    from unitagent.settings import Settings
    from unitagent.system.keyring import Keyring

_MOST_SHOWN = 16  # processes of a rank
_KIB = 1024
_LAST_DAY = 2.0**33  # seconds since the epoch; nobody collects later


def show_evidence(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print what was collected about a generation, the last one by default; with ``--fetch`` get the files.

    Raises:
        ConfigurationError: the files cannot be written there.
        UnitAgentError: nothing was collected.
        StoreError: neither the store nor an agent answers.

    """
    keys = settings.keys
    found, seen = asyncio.run(load_evidence(settings, keys, namespace.generation))
    generation = _choose_generation(settings, found, seen, namespace.generation)
    ranks = found[generation]
    if namespace.json:
        print_verbatim(escape_json(json.dumps(_describe(generation, ranks, seen), indent=2)) + "\n")
    else:
        lines = _format_generation(generation, ranks, seen, sorted(found))
        print_text("\n".join(map(escape_line, lines)))
    if namespace.fetch is None:
        return 0
    folder = Path(namespace.fetch) / f"generation-{generation}"
    try:
        return _fetch_all(settings, keys, ranks, seen, folder)
    except OSError as error:
        why = f"must be a directory that can be written ({error.strerror})"
        raise ConfigurationError(f"--fetch={namespace.fetch!r}: {why}") from error


def _choose_generation(settings: Settings, found: Found, seen: Mapping[str, Any], wanted: int | None) -> int:
    """Return the generation that is shown, the last one by default.

    Raises:
        UnitAgentError: there is nothing to show.

    """
    if wanted is not None and wanted in found:
        return wanted
    if not found:
        raise UnitAgentError(
            f"UNIT_ID={settings.unit}: neither the store nor an agent that answers has evidence; it is "
            "collected when a generation fails (UNIT_EVIDENCE_SECONDS)"
        )
    if wanted is not None:
        listed = ", ".join(map(str, sorted(found)))
        raise UnitAgentError(
            f"--generation={wanted}: no evidence for generation {wanted}; available: {listed}"
        )
    ends = list_ends(seen)
    if (last := max(ends, default=0)) > max(found):
        print_warning(f"no evidence for the last failure ({ends[last]}); showing the latest there is:")
    return max(found)


def _describe(generation: int, ranks: RankTable, seen: Mapping[str, Any]) -> dict[str, Any]:
    failure = seen["failure"]
    return {
        "generation": generation,
        "failure": failure if failure and failure["generation"] == generation else None,
        "ended": list_ends(seen).get(generation),
        "comparison": _compare(ranks),
        "ranks": [msgspec.to_builtins(one) for one in ranks.values()],
    }


def _compare(ranks: RankTable) -> str:
    return compare_ranks({rank: one.list_places() for rank, one in ranks.items()})


def _format_generation(
    generation: int, ranks: RankTable, seen: Mapping[str, Any], all_known: list[int]
) -> Iterator[str]:
    told = list_ends(seen).get(generation, "")
    yield told or f"generation {generation}"
    causes = {one.cause: rank for rank, one in reversed(ranks.items()) if one.cause not in told}
    yield from (f"rank {rank}: {cause}" for cause, rank in reversed(causes.items()))
    if (verdict := _compare(ranks)) and verdict not in told:
        yield verdict
    instances = {one["rank"]: one for one in seen["instances"]}
    for rank, one in ranks.items():
        yield ""
        yield from _format_rank(rank, one, instances.get(rank))
    others = [str(number) for number in all_known if number != generation]
    if others:
        yield ""
        yield f"other generations with evidence (--generation N): {', '.join(others)}"


def _format_rank(rank: int, one: RankEvidence, instance: Mapping[str, Any] | None) -> Iterator[str]:
    host = f" on {instance['hostname'] or instance['ip']}" if instance and instance["ip"] else ""
    at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(min(max(0.0, one.at), _LAST_DAY)))
    kept = f"{one.files} files, {one.size / _KIB:.0f} KiB, in {one.name}" if one.name else "no files"
    yield f"rank {rank}{host}, {at}: {kept}"
    for place in one.list_places()[:_MOST_SHOWN]:
        yield f"  {place.pid:>8} {'waits' if place.waits else 'is'} {place.words}"
    if one.trouble:
        yield f"  not collected: {one.trouble}"


def _fetch_all(
    settings: Settings,
    keys: Keyring,
    ranks: RankTable,
    seen: Mapping[str, Any],
    folder: Path,
) -> int:
    """Get the files of all ranks into a folder each; return 1 if some are missing."""
    missing = 0
    instances = {one["rank"]: one for one in seen["instances"]}
    for rank, one in ranks.items():
        instance = instances.get(rank)
        try:
            if instance is None or not instance.get("port"):
                raise UnitAgentError("its agent cannot be reached")  # noqa: TRY301 (told as all others are)
            _fetch_rank(EvidenceReader(settings.unit, keys, instance), one, folder / f"rank-{rank}")
        except UnitAgentError as error:
            missing += 1
            print_warning(f"warning: rank {rank}: {error}")
    if missing < len(ranks):
        print_text(f"fetched into {folder}")
    return 1 if missing else 0


def _fetch_rank(reader: EvidenceReader, one: RankEvidence, folder: Path) -> None:
    """Get the files of a rank.

    Raises:
        UnitAgentError: some are missing; it says why.

    """
    found = (each.get("files") for each in reader.list_collections() if each.get("name") == one.name)
    files = next(found, None)
    if not isinstance(files, list) or not one.name:
        raise UnitAgentError("its files are gone: the container was rebuilt, or newer files replaced them")
    folder.mkdir(parents=True, exist_ok=True)
    left = MOST_BYTES
    for each in files:
        name = str(each.get("name", "")) if isinstance(each, dict) else ""
        if is_valid_name(one.name, name):
            data = _fetch_file(reader, one.name, name, left)
            left -= len(data)
            (folder / name).write_bytes(data)


def _fetch_file(reader: EvidenceReader, collection: str, file: str, most: int) -> bytes:
    """Return a whole file, but no more than ``most`` bytes."""
    data = b""
    while len(data) < most:
        piece = reader.read_piece(collection, file, len(data))
        data += piece
        if len(piece) < PIECE:
            break
    return data
