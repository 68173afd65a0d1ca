"""Lists the evidence of a Unit: what its store lists, and what only its agents know of.

The invariants: the store is asked first, but nothing depends on it. It may be unreachable, may have been so
when a rank collected, or may have ended with rank 0; the agents keep the files and know what is in them. If
an agent does not answer, only its own rank is missing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from unitagent.agent.evidence_collection import decode_entries
from unitagent.errors import StoreError, UnitAgentError
from unitagent.evidence.reports import RankEvidence, read_facts
from unitagent.operator.evidence_client import EvidenceReader
from unitagent.operator.store_locator import find_store_url
from unitagent.operator.unit_cli import load_status
from unitagent.store.evidence_index import EvidenceIndex
from unitagent.system.safe_output import print_warning
from unitagent.system.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from unitagent.settings import Settings
    from unitagent.system.keyring import Keyring

_ANSWER_TIMEOUT = 2.0  # seconds for the store's answer
_AT_ONCE = 32  # agents
_ONE_FAILURE = 86400.0  # seconds; a store that forgets a Unit, after a day, begins again with generation 1

RankTable = dict[int, RankEvidence]  # by rank
Found = dict[int, RankTable]  # by generation


async def load_evidence(
    settings: Settings, keys: Keyring, wanted: int | None
) -> tuple[Found, dict[str, Any]]:
    """Return all evidence that is known, and the Unit's status.

    Agents are asked about the ranks that the store does not list for the ``wanted`` generation, or for the
    last one that ended; of each that does not answer a warning says why.

    Raises:
        UnitAgentError: neither the store nor an agent tells of such a Unit.

    """
    seen, _ = await load_status(settings, keys)
    found = await _read_index(settings, keys)
    generation = max([*found, *list_ends(seen)], default=0) if wanted is None else wanted
    listed = {rank for rank, one in found.get(generation, {}).items() if one.name}
    unlisted = [one for one in seen["instances"] if one.get("port") and one["rank"] not in listed]
    for evidence in await _ask_agents(settings.unit, keys, unlisted):
        ranks = found.setdefault(evidence.generation, {})
        if evidence.rank not in ranks or not ranks[evidence.rank].name:
            ranks[evidence.rank] = evidence
    return {number: _select_last(ranks) for number, ranks in found.items()}, seen


def list_ends(seen: Mapping[str, Any]) -> dict[int, str]:
    """Return by generation how it ended, as far as a status tells."""
    ends = (seen.get("last_order"), seen.get("failure"))
    return {one["generation"]: one["detail"] for one in ends if one}


async def _read_index(settings: Settings, keys: Keyring) -> Found:
    """Return what the store lists; nothing while it is away."""
    try:
        url = await asyncio.to_thread(find_store_url, settings, keys)
    except StoreError:
        return {}
    index = EvidenceIndex(settings.unit, url, timeout=_ANSWER_TIMEOUT)
    try:
        entries = await index.read_all()
    except StoreError:
        return {}
    finally:
        await index.close()
    return {number: decode_entries(each) for number, each in entries.items()}


async def _ask_agents(
    unit: str, keys: Keyring, instances: Iterable[Mapping[str, Any]]
) -> Iterator[RankEvidence]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(instance: Mapping[str, Any]) -> list[RankEvidence]:
        reader = EvidenceReader(unit, keys, instance)
        try:
            async with turns:
                listed = await run_in_daemon_thread(reader.list_collections)
        except (UnitAgentError, OSError) as error:  # no answer, or no thread
            print_warning(f"warning: rank {instance['rank']}: {error}")
            return []
        return [_read_collection(instance["rank"], one) for one in listed]

    answers = await asyncio.gather(*map(ask, instances))
    return (evidence for answer in answers for evidence in reversed(answer))


def _read_collection(rank: int, collection: Mapping[str, Any]) -> RankEvidence:
    """Read what an agent says of a collection; one of an older version says only which files it has."""
    files = collection.get("files")
    sizes = [one.get("bytes") for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    generation, at, report = (collection.get(name) for name in ("generation", "at", "report"))
    return RankEvidence(
        generation=generation if isinstance(generation, int) else 0,
        rank=rank,
        at=float(at) if isinstance(at, (int, float)) else 0.0,
        **{
            **read_facts(report if isinstance(report, dict) else {}),
            "name": str(collection.get("name", "")),
            "files": len(sizes),
            "size": sum(size for size in sizes if isinstance(size, int)),
        },
    )


def _select_last(ranks: RankTable) -> RankTable:
    """Leave out what was left by an earlier Unit of this name, whose generations had the same numbers."""
    last = max(one.at for one in ranks.values())
    return {rank: one for rank, one in sorted(ranks.items()) if last - one.at < _ONE_FAILURE}
