"""``unitagent run`` from its settings to its exit code: find out who and where, reach the store, build the
agent, and take everything down again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unitagent import folder
from unitagent.agent.agreement import Agreement
from unitagent.agent.announcing import Announcer
from unitagent.agent.checking import Commands
from unitagent.agent.claim import Claimed, claim
from unitagent.agent.embedding import EmbeddedStore, refuse_open_store, store_address
from unitagent.agent.fingerprint import fingerprint
from unitagent.agent.launch import Launcher, find_rdma
from unitagent.agent.loop import Agent, Rooms
from unitagent.agent.onlooker import Onlooker
from unitagent.agent.recording import Recorder
from unitagent.agent.secret_file import SecretFile
from unitagent.agent.views import Views
from unitagent.card_variables import misleading
from unitagent.core import joining
from unitagent.core.events import Opinion
from unitagent.core.model import Record, Rules
from unitagent.core.state import first
from unitagent.discovery.netns import find_own_netns
from unitagent.discovery.network import Address, find_address
from unitagent.errors import RebuildError, UnitAgentError
from unitagent.keys import Keyring
from unitagent.listening import explain_other_address, refuse_unheard
from unitagent.log import Where
from unitagent.probes.hosts import Hosts, names_in
from unitagent.probes.metrics import Metrics
from unitagent.probes.peers import Asker, Peers
from unitagent.probes.server import ProbeServer
from unitagent.settings import Resolved, Settings
from unitagent.store.history import History
from unitagent.store.redis import RedisStore
from unitagent.store.registry import Registry
from unitagent.workload import command, leftovers
from unitagent.workload.background import in_background
from unitagent.workload.errand import Errand
from unitagent.workload.leash import Leash
from unitagent.workload.process import Workload
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import OVERHEARD, Birth, birth, install

_log = logging.getLogger(__name__)

_CARD_SECONDS = 60.0  # a card may be attached a while after the container has started
_REFRESHED_A_SECOND = 10  # instances; so often are all records read again, and not only changed ones
_LINGER = 1.0  # seconds that rank 0 keeps its embedded store for the others to read its farewell


@dataclass(frozen=True, slots=True)
class Here:
    """This process: what it was born with, who reaps for it, who watches over it, and its Unit's keys."""

    born: Birth
    reaper: Reaper
    leash: Leash
    keys: Keyring


async def run(found: Resolved, where: Where, mask: frozenset[int] = frozenset()) -> int:
    """Be one instance of the Unit; returns the exit code.

    ``mask``: the signals that were blocked when this process began, to be so again when we can listen.

    Raises:
        UnitAgentError: what a person has to know; its ``exit_code`` is the one to end with.

    """
    for warning in found.warnings:
        _log.warning("%s", warning)
    folder.leave()
    here = Here(birth(mask), Reaper(), Leash(), found.settings.keys)
    here.reaper.install()
    here.leash.start(here.reaper)
    early = asyncio.ensure_future(_live(found, where, here))
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)
        early.cancel()

    install(here.born, on_stop=stop, forward=lambda _: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask | OVERHEARD)
    try:
        return await early
    except asyncio.CancelledError:
        if not asked:  # an end that nobody asked for must not look like success
            raise UnitAgentError("internal error: the agent was cancelled although no signal came") from None
        _log.info("asked to stop by %s before joining", signal.Signals(asked[0]).name)
        return 0
    finally:
        await here.leash.close()
        here.reaper.close()


async def _live(found: Resolved, where: Where, here: Here) -> int:
    settings = found.settings
    with folder.returned():
        command.resolve(settings.command, os.environ)
    address = await find_address(settings.ifname, settings.rank_ip, _CARD_SECONDS, _log.warning)
    if settings.http_port and settings.size > 1:
        await in_background(partial(refuse_unheard, settings.http_host, settings.http_port, address.ip))
    embedded = settings.redis_url is None and settings.redis_url_file is None
    if settings.size > 1 and embedded:
        elsewhere = explain_other_address(settings.master_address, address.ip, settings.rank)
        if elsewhere:
            _log.warning("%s", elsewhere)
    for said, remedy in misleading(_given(found), address.ifname, address.ip):
        _log.warning("%s: ranks may wait for each other for ever; %s", said, remedy)
    if settings.rank is not None:
        Launcher(found, settings.rank, (address.ifname, address.ip), "").rehearse()  # or it is refused here
        await _end_former(settings.unit, settings.rank)
    incarnation = secrets.token_hex(8)
    async with (
        SecretFile(settings.secret_file, here.keys).watched(settings.heartbeat) as file,
        _store(settings, incarnation, address, here, file) as stores,
    ):
        claimed = await _identity(found, incarnation, address, stores[0], here.keys)
        where.rank = claimed.me.rank
        return await _serve(found, where, here, Place(address, claimed.me, claimed.took, file, *stores))


@dataclass(frozen=True, slots=True)
class Place:
    """Where this instance stands in the Unit; ``took``: the record whose place it has taken already."""

    address: Address
    me: Record
    took: Record | None
    file: SecretFile
    store: RedisStore
    registry: Registry
    history: History


async def _end_former(unit: str, rank: int) -> None:
    former = await in_background(lambda: leftovers.end_former(unit, rank))
    if former.ended:
        _log.warning("ended %d processes that a former agent of this rank left behind", len(former.ended))
    if former.left:
        left = ", ".join(map(str, former.left))
        raise RebuildError(
            f"not even SIGKILL ended processes of a former agent of rank {rank}: {left}; until they are gone "
            "nothing may start in their place: rebuild this container, or this machine"
        )


@contextlib.asynccontextmanager
async def _store(
    settings: Settings, incarnation: str, address: Address, here: Here, file: SecretFile
) -> AsyncIterator[tuple[RedisStore, Registry, History]]:
    """The store, its list of Units and the Unit's history, with their server when it is embedded here."""
    where, server = store_address(settings, address.ip, here.keys), None
    refuse_open_store(settings, where)
    if where.embedded_here:
        server = EmbeddedStore(where, here.reaper)
        await server.start()
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
        yield store, registry, History(settings.unit, where.url, timeout=timeout)
    finally:
        await store.close()
        if server is not None:
            if settings.size > 1:
                await asyncio.sleep(_LINGER)
            await server.stop()


async def _identity(
    found: Resolved, incarnation: str, address: Address, store: RedisStore, keys: Keyring
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
    asker = Asker(settings.unit, incarnation, keys)
    peers = Peers(asker, address.ip, settings.timing.peer_timeout, lambda *_: None)

    async def ask(record: Record) -> Opinion:
        return (await peers.ask(record)).opinion

    claimed = await claim(
        store,
        me,
        guard=settings.guard,
        timing=settings.timing,
        store_timeout=settings.store_timeout,
        ask=ask if settings.http_port else None,
    )
    await _end_former(settings.unit, claimed.me.rank)
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
    return fingerprint(settings.command, shared, _given(found))


def _given(found: Resolved) -> dict[str, str]:
    """The environment that the user gives a workload, the service file's part included."""
    return {**found.environment, **{name: text for name, text in os.environ.items() if text}}


async def _serve(found: Resolved, where: Where, here: Here, place: Place) -> int:
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
    state = first(rules(settings, me, health=rehearsed.asked is not None), me, time.monotonic())
    if place.took is not None:
        state = joining.succeed(state, place.took)
    agent = Agent(state, where, settings.stall)
    recorder = Recorder(place.history, state)
    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    workload = Workload(here.reaper, here.born, on_exit=agent.on_exit, capture_stderr=not interactive)
    metrics = Metrics(me.rank)
    asker = Asker(settings.unit, me.incarnation, here.keys)
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
    return lambda argv, env: Errand(here.reaper, here.born, argv, env).run


@contextlib.asynccontextmanager
async def _probes(settings: Settings, views: Views, ip: str, keys: Keyring) -> AsyncIterator[None]:
    if not settings.http_port:
        yield
        return
    shows_all = settings.dashboard == "store"
    where = store_address(settings, ip, keys)
    units = Onlooker(where.url, views, settings, keys) if shows_all else None
    server = ProbeServer(views, keys, units, _hosts(settings))
    await server.start(settings.http_host, settings.http_port)
    try:
        yield
    finally:
        await server.stop()


def _hosts(settings: Settings) -> Hosts:
    """The names of this host and of the Unit, and those that the user gives; an Envoy names its cluster."""
    try:
        known = names_in(Path("/etc/hosts").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        known = set()
    own = (socket.gethostname(), settings.http_host, settings.unit, settings.service, settings.master_address)
    return Hosts([*filter(None, own), *known, *(settings.http_hosts or ())])


def rules(settings: Settings, me: Record, *, health: bool) -> Rules:
    """What the core is told of the settings."""
    return Rules(
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
