"""``unitagent run`` from where it is to its exit code: reach the store, build the agent, take it down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unitagent.agent.agreement import Agreement
from unitagent.agent.announcing import Announcer
from unitagent.agent.checking import Commands
from unitagent.agent.claim import Claimed, claim
from unitagent.agent.embedding import EmbeddedStore, StoreAddress, store_address
from unitagent.agent.fingerprint import fingerprint
from unitagent.agent.here import Here, end_former, given
from unitagent.agent.launch import Launcher, find_rdma
from unitagent.agent.loop import Agent, Rooms
from unitagent.agent.recording import Recorder
from unitagent.agent.secret_file import SecretFile
from unitagent.agent.views import Views
from unitagent.core import rank_ownership
from unitagent.core.events import ProbeResult
from unitagent.core.model import CoreConfig, Record
from unitagent.core.state import initial_state
from unitagent.discovery.interfaces import InstanceAddress
from unitagent.discovery.network import find_own_netns
from unitagent.probes.metrics import Metrics
from unitagent.probes.peers import PeerAsker, Peers
from unitagent.probes.server import AllowedHosts, ProbeServer, parse_etc_hosts
from unitagent.settings import Resolved, Settings
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring
from unitagent.system.log import LogContext
from unitagent.workload import leftovers
from unitagent.workload.process import Workload

if TYPE_CHECKING:
    from unitagent.probes.health import HealthCheck
    from unitagent.probes.unit_list import UnitSource

_log = logging.getLogger(__name__)

_REFRESHED_A_SECOND = 10  # instances; so often are all records read again, and not only changed ones
_LINGER = 1.0  # seconds that rank 0 keeps its embedded store for the others to read its farewell

Store = tuple[StoreAddress, EmbeddedStore | None]  # where it is, and its server when that is ours


async def serve(
    found: Resolved, where: LogContext, here: Here, address: InstanceAddress, there: Store
) -> int:
    """Join the Unit at this address and be its instance; returns the exit code."""
    settings = found.settings
    incarnation = secrets.token_hex(8)
    async with (
        SecretFile(settings.secret_file, here.keys).watched(settings.heartbeat) as file,
        _store(settings, incarnation, here, there, file) as stores,
    ):
        claimed = await _identity(found, incarnation, address, stores[0], here.keys)
        where.rank = claimed.me.rank
        return await _serve(found, where, here, Place(address, claimed.me, claimed.took, file, *stores))


@dataclass(frozen=True, slots=True)
class Place:
    """Where this instance stands in the Unit; ``took``: the record whose place it has taken already."""

    address: InstanceAddress
    me: Record
    took: Record | None
    file: SecretFile
    store: RedisStore
    registry: Registry
    history: UnitHistory


@contextlib.asynccontextmanager
async def _store(
    settings: Settings, incarnation: str, here: Here, there: Store, file: SecretFile
) -> AsyncIterator[tuple[RedisStore, Registry, UnitHistory]]:
    """The store, its list of Units and the Unit's history."""
    where, server = there
    if server is not None:
        await server.ready()
    store = RedisStore(
        settings.unit,
        where.url,
        timeout=settings.timing.operation_timeout,
        incarnation=incarnation,
        keys=here.keys,
        needs_port=settings.http_port != 0,
        size=settings.size,
        refresh=max(settings.lease, settings.size / _REFRESHED_A_SECOND),
        remedy=where.remedy,
    )
    if server is not None:
        file.also(partial(server.follow, lambda: store.unlike == frozenset()))
    try:
        timeout = settings.timing.operation_timeout
        registry = Registry(where.url, timeout=timeout, keys=here.keys)
        yield store, registry, UnitHistory(settings.unit, where.url, timeout=timeout)
    finally:
        await store.close()
        if server is not None and settings.size > 1:
            await asyncio.sleep(_LINGER)


async def _identity(
    found: Resolved, incarnation: str, address: InstanceAddress, store: RedisStore, keys: Keyring
) -> Claimed:
    settings = found.settings
    me = Record(
        rank=settings.rank or 0,
        incarnation=incarnation,
        size=settings.size,
        ip=address.ip,
        port=settings.http_port,
        netns=find_own_netns(settings.http_host, settings.http_port, address.ip),
        hostname=_readable(socket.gethostname()),
        revision=settings.revision,
        fingerprint=_fingerprint(found),
        lease=settings.lease,
    )
    if settings.rank is not None:
        store.set_rank(me.rank)
        return Claimed(me)
    asker = PeerAsker(settings.unit, incarnation, keys)
    peers = Peers(asker, address.ip, settings.timing.peer_timeout, lambda *_: None)

    async def ask(record: Record) -> ProbeResult:
        return (await peers.ask_peer(record)).opinion

    claimed = await claim(
        store,
        me,
        guard=settings.guard,
        timing=settings.timing,
        store_timeout=settings.store_timeout,
        ask=ask if settings.http_port else None,
    )
    await end_former(settings.unit, claimed.me.rank)
    return claimed


def _readable(hostname: str) -> str:
    """A name that a record may hold: the kernel takes any bytes for one."""
    return "".join(letter if letter.isprintable() else "?" for letter in hostname)


def _fingerprint(found: Resolved) -> str:
    """Of what the workload is given by the user, and of how the Unit is to act."""
    settings = found.settings
    shared = {
        "UNIT_FRAMEWORK": settings.framework,
        "UNIT_GUARD": str(settings.guard).lower(),
        "UNIT_MODE": str(settings.mode),
        "UNIT_RESTART": str(settings.restart),
        "UNIT_LEASE_SECONDS": f"{settings.lease:g}",
        "UNIT_HEARTBEAT_SECONDS": f"{settings.heartbeat:g}",
    }
    return fingerprint(settings.command, shared, given(found))


async def _serve(found: Resolved, where: LogContext, here: Here, place: Place) -> int:
    settings, me = found.settings, place.me
    card = (place.address.ifname, place.address.ip)
    hca = await asyncio.to_thread(find_rdma, found, place.address.ifname, _log.warning)
    launcher = Launcher(
        found, me.rank, card, leftovers.marker(me.incarnation), hca=hca, commands=_commands(here)
    )
    rehearsed = launcher.rehearse()
    for notice in rehearsed.notices:
        _log.warning("%s", notice)
    if rehearsed.asked is not None:
        _log.info("rank 0's health: %s", rehearsed.asked.words)
    state = initial_state(rules(settings, me, health=rehearsed.asked is not None), me, time.monotonic())
    if place.took is not None:
        state = rank_ownership.succeed_holder(state, place.took)
    agent = Agent(state, where, settings.stall)
    recorder = Recorder(place.history, state)
    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    workload = Workload(here.reaper, here.born, on_exit=agent.on_exit, capture_stderr=not interactive)
    metrics = Metrics(me.rank)
    asker = PeerAsker(settings.unit, me.incarnation, here.keys)
    peers = Peers(asker, place.address.ip, settings.timing.peer_timeout, agent.on_hangup)
    agent.furnish(
        Rooms(
            store=place.store,
            workload=workload,
            peers=peers,
            launcher=launcher,
            metrics=metrics,
            leash=here.leash,
            recorder=recorder,
        )
    )
    agreement = Agreement(agent, place.store, here.keys)
    place.file.also(agreement.follow)
    views = Views(agent, metrics, settings.dashboard, agreement)
    announcer = Announcer(place.registry, views, settings, me.ip, rehearsed.traffic_port or 0)
    async with (
        recorder.running(),
        _probes(settings, views, me.ip, here.keys),
        announcer.running() if me.rank == 0 else contextlib.nullcontext(),
    ):
        return await agent.run(here.born)


def _commands(here: Here) -> Commands:
    """Checks of commands run as children of this process."""

    def check(argv: Sequence[str], env: Mapping[str, str]) -> HealthCheck:
        from unitagent.workload.errand import Errand  # noqa: PLC0415 (few service files name a command)

        return Errand(here.reaper, here.born, argv, env).run

    return check


@contextlib.asynccontextmanager
async def _probes(settings: Settings, views: Views, ip: str, keys: Keyring) -> AsyncIterator[None]:
    if not settings.http_port:
        yield
        return
    where = store_address(settings, ip, keys)
    units = _onlooker(where, views, settings, keys) if settings.dashboard == "store" else None
    server = ProbeServer(views, keys, units, _hosts(settings))
    await server.start(settings.http_host, settings.http_port)
    try:
        yield
    finally:
        await server.stop()


def _onlooker(where: StoreAddress, views: Views, settings: Settings, keys: Keyring) -> UnitSource:
    from unitagent.agent.onlooker import Onlooker  # noqa: PLC0415 (few pages show more than their own Unit)

    return Onlooker(where.url, views, settings, keys)


def _hosts(settings: Settings) -> AllowedHosts:
    """The names of this host and of the Unit, and those that the user gives; an Envoy names its cluster."""
    try:
        known = parse_etc_hosts(Path("/etc/hosts").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        known = set()
    own = (socket.gethostname(), settings.http_host, settings.unit, settings.service, settings.master_address)
    return AllowedHosts([*filter(None, own), *known, *(settings.http_hosts or ())])


def rules(settings: Settings, me: Record, *, health: bool) -> CoreConfig:
    """What the core is told of the settings."""
    return CoreConfig(
        unit=settings.unit,
        rank=me.rank,
        size=settings.size,
        incarnation=me.incarnation,
        guard=settings.guard,
        mode=settings.mode,
        restart=settings.restart,
        strict=settings.strict,
        probes=settings.http_port != 0,
        health=health,
        owns_store=me.rank == 0 and settings.redis_url is None and settings.redis_url_file is None,
        store_timeout=settings.store_timeout,
        lease=settings.lease,
        heartbeat=settings.heartbeat,
        barrier_timeout=settings.barrier_timeout,
        startup=settings.startup,
        stop_grace=settings.stop_grace,
        restart_grace=settings.restart_grace,
        drain=settings.drain,
        deregister=settings.deregister,
        max_restarts=settings.max_restarts,
        restart_window=settings.restart_window,
        backoff=settings.backoff,
        epoch=time.time() - time.monotonic(),
    )
