"""``unitagent evidence``: what the ranks have collected about a failed generation, compared, and fetched."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from unitagent.agent.evidence_collection import decode_entries
from unitagent.core.status import format_failure
from unitagent.errors import UnitAgentError
from unitagent.evidence.comparison import compare_ranks
from unitagent.evidence.folder import MOST_BYTES, PIECE, is_valid_name
from unitagent.operator.evidence_client import EvidenceReader
from unitagent.operator.store_locator import find_store_url
from unitagent.store.evidence_index import EvidenceIndex
from unitagent.store.redis_store import RedisStore
from unitagent.system.safe_output import escape_json, print_text, print_verbatim, print_warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitagent.core.model import Record
    from unitagent.evidence.reports import RankEvidence
    from unitagent.settings import Settings
    from unitagent.store.protocol import UnitSnapshot
    from unitagent.system.keyring import Keyring

_ANSWER_TIMEOUT = 2.0  # seconds for the store's answer
_MOST_SHOWN = 16  # processes of a rank
_KIB = 1024
_LAST_DAY = 2.0**33  # seconds since the epoch; nobody collects later

Found = dict[int, dict[int, "RankEvidence"]]  # by generation and rank


def show_evidence(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print what was collected about a generation, the last one by default; with ``--fetch`` get the files.

    Raises:
        UnitAgentError: nothing was collected.
        StoreError: the store does not answer.

    """
    keys = settings.keys
    found, snapshot = asyncio.run(_read_index(settings, keys))
    generation = _choose_generation(settings, found, namespace.generation)
    ranks = found[generation]
    if namespace.json:
        print_verbatim(escape_json(json.dumps(_describe(generation, ranks, snapshot), indent=2)) + "\n")
    else:
        print_text("\n".join(_format_generation(generation, ranks, snapshot, sorted(found))))
    if namespace.fetch is None:
        return 0
    folder = Path(namespace.fetch) / f"generation-{generation}"
    return _fetch_all(settings, keys, ranks, snapshot, folder)


async def _read_index(settings: Settings, keys: Keyring) -> tuple[Found, UnitSnapshot]:
    url = await asyncio.to_thread(find_store_url, settings, keys)
    index = EvidenceIndex(settings.unit, url, timeout=_ANSWER_TIMEOUT)
    store = RedisStore(settings.unit, url, timeout=_ANSWER_TIMEOUT, keys=keys, warn=print_warning)
    try:
        entries = await index.read_all()
        return {number: decode_entries(each) for number, each in entries.items()}, await store.read()
    finally:
        await index.close()
        await store.close()


def _choose_generation(settings: Settings, found: Found, wanted: int | None) -> int:
    """Return the generation that is shown.

    Raises:
        UnitAgentError: there is nothing to show.

    """
    if not found:
        raise UnitAgentError(
            f"UNIT_ID={settings.unit}: no evidence is listed in the store; it is collected when a generation "
            "fails (UNIT_EVIDENCE_SECONDS), and listed for a day"
        )
    if wanted is not None and wanted not in found:
        listed = ", ".join(map(str, sorted(found)))
        raise UnitAgentError(
            f"--generation={wanted}: no evidence is listed for it; there is some for {listed}"
        )
    return max(found) if wanted is None else wanted


def _describe(generation: int, ranks: Mapping[int, RankEvidence], snapshot: UnitSnapshot) -> dict[str, Any]:
    failure = snapshot.failure
    known = failure is not None and failure.generation == generation
    return {
        "generation": generation,
        "failure": format_failure(failure) if known else None,
        "comparison": _compare(ranks),
        "ranks": [msgspec.to_builtins(one) for _, one in sorted(ranks.items())],
    }


def _compare(ranks: Mapping[int, RankEvidence]) -> str:
    return compare_ranks({rank: one.list_places() for rank, one in ranks.items()})


def _format_generation(
    generation: int, ranks: Mapping[int, RankEvidence], snapshot: UnitSnapshot, all_listed: list[int]
) -> Iterator[str]:
    failure = snapshot.failure
    told = failure.sentence if failure is not None and failure.generation == generation else ""
    yield told or f"generation {generation}"
    causes = {one.cause: rank for rank, one in sorted(ranks.items(), reverse=True) if one.cause not in told}
    yield from (f"rank {rank}: {cause}" for cause, rank in reversed(causes.items()))
    if (verdict := _compare(ranks)) and verdict not in told:
        yield verdict
    for rank, one in sorted(ranks.items()):
        yield ""
        yield from _format_rank(rank, one, snapshot.records.get(rank))
    others = [str(number) for number in all_listed if number != generation]
    if others:
        yield ""
        yield f"also listed (--generation N): {', '.join(others)}"


def _format_rank(rank: int, one: RankEvidence, record: Record | None) -> Iterator[str]:
    host = f" on {record.hostname or record.ip}" if record is not None else ""
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
    ranks: Mapping[int, RankEvidence],
    snapshot: UnitSnapshot,
    folder: Path,
) -> int:
    """Get the files of all ranks into a folder each; return 1 if some are missing."""
    missing = 0
    for rank, one in sorted(ranks.items()):
        record = snapshot.records.get(rank)
        try:
            if record is None or not record.port:
                raise UnitAgentError("no agent of it can be asked")  # noqa: TRY301 (told as all others are)
            _fetch_rank(EvidenceReader(settings.unit, keys, record), one, folder / f"rank-{rank}")
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
