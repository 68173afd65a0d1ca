"""What an instance needs to be one of the spares, or to watch them, from its settings."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from unitagent.agent.process_context import ProcessContext
from unitagent.agent.rank_search import Spare
from unitagent.core.events import ProbeResult
from unitagent.core.model import Record
from unitagent.core.spares import Standby
from unitagent.probes.peers import PeerAsker, Peers
from unitagent.settings import Resolved, Settings
from unitagent.store.address import LocationSource
from unitagent.store.spare_list import UnitSpares


def make_peer_probe(
    settings: Settings, me: Record, context: ProcessContext
) -> Callable[[Record], Awaitable[ProbeResult]] | None:
    """Return a function that asks who answers at a record's address; None if agents cannot be asked."""
    if not settings.http_port:
        return None
    peer_client = PeerAsker(settings.unit, me.incarnation, context.keys)
    peers = Peers(peer_client, me.ip, settings.timing.peer_timeout, lambda *_: None)

    async def ask(record: Record) -> ProbeResult:
        return (await peers.ask_peer(record)).result

    return ask


def make_spare_list(settings: Settings, context: ProcessContext, url: str | LocationSource) -> UnitSpares:
    """Make the list of spares in the store at ``url``."""
    timeout = settings.timing.operation_timeout
    return UnitSpares(settings.unit, url, size=settings.size, timeout=timeout, keys=context.keys)


def make_standby(resolved: Resolved, me: Record) -> Standby:
    """Make my entry in the list of spares, with the number in RANK_ID if that is a spare's."""
    number = resolved.texts["RANK_ID"]
    given = int(number) if number.isdecimal() else 0
    return Standby(
        number=max(given, me.size),
        incarnation=me.incarnation,
        ip=me.ip,
        port=me.port,
        hostname=me.hostname,
        since=time.time(),
    )


def find_kind_of_spare(resolved: Resolved) -> Spare:
    """Return which kind of spare this instance is, if any."""
    if not resolved.settings.spares:
        return Spare.NONE
    if resolved.settings.rank is not None:
        return Spare.HOME
    return Spare.BEYOND if resolved.texts["RANK_ID"].isdecimal() else Spare.ANY
