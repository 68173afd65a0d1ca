"""``unitagent run`` once its address is known: reach the store, claim a rank, build the agent and run it."""

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

from unitagent.agent.endpoint_publisher import EndpointPublisher
from unitagent.agent.fingerprint import compute_fingerprint
from unitagent.agent.history_writer import HistoryWriter
from unitagent.agent.launch import Launch, Launcher, choose_rdma_device
from unitagent.agent.loop import Agent, Components
from unitagent.agent.process_context import ProcessContext, kill_former_workload, merge_user_environment
from unitagent.agent.rank_claim import Claim, claim_free_rank
from unitagent.agent.secret_rotation import SecretAgreement, SecretFile
from unitagent.agent.store_setup import EmbeddedStoreSupervisor, StoreSetup, locate_store
from unitagent.agent.views import Views
from unitagent.agent.workload_health import CommandChecks
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
from unitagent.workload.lifecycle import Workload

if TYPE_CHECKING:
    from unitagent.agent.warm_starts import WarmStarts
    from unitagent.probes.health import HealthCheck
    from unitagent.probes.unit_list import UnitSource

_log = logging.getLogger(__name__)

_REFRESHED_A_SECOND = 10  # instances; the rate at which all records are read again, not only changed ones
_LINGER = 1.0  # seconds that rank 0 keeps its embedded store so that the others can read its last record

Store = tuple[
    StoreSetup, EmbeddedStoreSupervisor | None
]  # its location, and its server if this instance runs it


async def run_instance(
    found: Resolved, where: LogContext, context: ProcessContext, address: InstanceAddress, there: Store
) -> int:
    """Join the Unit at this address and run until the end; return the exit code."""
    settings = found.settings
    incarnation = secrets.token_hex(8)
    async with (
        SecretFile(settings.secret_file, context.keys).watch_in_background(settings.heartbeat) as file,
        _open_stores(settings, incarnation, context, there, file) as stores,
    ):
        claimed = await _claim_identity(found, incarnation, address, stores[0], context.keys)
        where.rank = claimed.me.rank
        return await _run_placed(
            found, where, context, Placement(address, claimed.me, claimed.took, file, *stores)
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where this instance stands in the Unit; ``took``: the record whose place it has taken already."""

    address: InstanceAddress
    me: Record
    took: Record | None
    file: SecretFile
    store: RedisStore
    registry: Registry
    history: UnitHistory


@contextlib.asynccontextmanager
async def _open_stores(
    settings: Settings, incarnation: str, context: ProcessContext, there: Store, file: SecretFile
) -> AsyncIterator[tuple[RedisStore, Registry, UnitHistory]]:
    """The store, its list of Units and the Unit's history."""
    where, server = there
    if server is not None:
        await server.wait_until_ready()
    store = RedisStore(
        settings.unit,
        where.url,
        timeout=settings.timing.operation_timeout,
        incarnation=incarnation,
        keys=context.keys,
        needs_port=settings.http_port != 0,
        size=settings.size,
        refresh=max(settings.lease, settings.size / _REFRESHED_A_SECOND),
        remedy=where.remedy,
    )
    if server is not None:
        file.add_follower(partial(server.update_passwords, lambda: store.unlike == frozenset()))
    try:
        timeout = settings.timing.operation_timeout
        registry = Registry(where.url, timeout=timeout, keys=context.keys)
        yield store, registry, UnitHistory(settings.unit, where.url, timeout=timeout)
    finally:
        await store.close()
        if server is not None and settings.size > 1:
            await asyncio.sleep(_LINGER)


async def _claim_identity(
    found: Resolved, incarnation: str, address: InstanceAddress, store: RedisStore, keys: Keyring
) -> Claim:
    settings = found.settings
    me = Record(
        rank=settings.rank or 0,
        incarnation=incarnation,
        size=settings.size,
        ip=address.ip,
        port=settings.http_port,
        netns=find_own_netns(settings.http_host, settings.http_port, address.ip),
        hostname=_make_printable(socket.gethostname()),
        revision=settings.revision,
        fingerprint=_fingerprint_settings(found),
        lease=settings.lease,
    )
    if settings.rank is not None:
        store.set_rank(me.rank)
        return Claim(me)
    peer_client = PeerAsker(settings.unit, incarnation, keys)
    peers = Peers(peer_client, address.ip, settings.timing.peer_timeout, lambda *_: None)

    async def ask(record: Record) -> ProbeResult:
        return (await peers.ask_peer(record)).result

    claimed = await claim_free_rank(
        store,
        me,
        guard=settings.guard,
        timing=settings.timing,
        store_timeout=settings.store_timeout,
        ask=ask if settings.http_port else None,
    )
    await kill_former_workload(settings.unit, claimed.me.rank)
    return claimed


def _make_printable(hostname: str) -> str:
    """Replace what a record cannot hold: the kernel accepts any bytes as a host name."""
    return "".join(letter if letter.isprintable() else "?" for letter in hostname)


def _fingerprint_settings(found: Resolved) -> str:
    """Fingerprint the user's command and environment, and the settings of the Unit."""
    settings = found.settings
    shared = {
        "UNIT_FRAMEWORK": settings.framework,
        "UNIT_GUARD": str(settings.guard).lower(),
        "UNIT_MODE": str(settings.mode),
        "UNIT_RESTART": str(settings.restart),
        "UNIT_LEASE_SECONDS": f"{settings.lease:g}",
        "UNIT_HEARTBEAT_SECONDS": f"{settings.heartbeat:g}",
    }
    return compute_fingerprint(settings.command, shared, merge_user_environment(found))


async def _run_placed(
    found: Resolved, where: LogContext, context: ProcessContext, placement: Placement
) -> int:
    settings, me = found.settings, placement.me
    launcher = await _make_launcher(found, context, placement)
    dry_run = launcher.prepare_dry_run()
    for notice in dry_run.notices:
        _log.warning("%s", notice)
    if dry_run.health_probe is not None:
        _log.info("rank 0's health: %s", dry_run.health_probe.description)
    rules = build_rules(settings, me, dry_run)
    state = initial_state(rules, me, time.monotonic())
    if placement.took is not None:
        state = rank_ownership.succeed_holder(state, placement.took)
    agent = Agent(state, where, settings.stall)
    history = HistoryWriter(placement.history, state)
    workload, warm = _make_workload(settings, context, agent)
    metrics = Metrics(me.rank)
    context.reaper.orphan_listeners.append(lambda *_: metrics.observe_reaped())
    peer_client = PeerAsker(settings.unit, me.incarnation, context.keys)
    peers = Peers(peer_client, placement.address.ip, settings.timing.peer_timeout, agent.on_hangup)
    agent.attach(
        Components(
            store=placement.store,
            workload=workload,
            peers=peers,
            launcher=launcher,
            metrics=metrics,
            watchdog=context.watchdog,
            history=history,
            warm=warm,
        )
    )
    agreement = SecretAgreement(agent, placement.store, context.keys)
    placement.file.add_follower(agreement.check_agreement)
    views = Views(agent, metrics, settings.dashboard, agreement)
    announcer = EndpointPublisher(placement.registry, views, settings, me.ip, dry_run.traffic_port or 0)
    async with (
        history.write_in_background(),
        _run_probe_server(settings, views, me.ip, context.keys),
        announcer.publish_in_background() if me.rank == 0 else contextlib.nullcontext(),
    ):
        if warm is not None and settings.warm == "first" and settings.rank is not None:  # a claim cannot wait
            await warm.prepare_first(dry_run)
        return await agent.run(context.inherited_signals)


def _make_workload(
    settings: Settings, context: ProcessContext, agent: Agent
) -> tuple[Workload, WarmStarts | None]:
    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    build = partial(
        Workload,
        context.reaper,
        context.inherited_signals,
        on_exit=agent.on_exit,
        capture_stderr=not interactive,
    )
    if settings.warm == "off":
        return build(), None
    from unitagent.agent.warm_starts import WarmStarts  # noqa: PLC0415 (few agents have them)
    from unitagent.workload.warm_start import WarmStarter  # noqa: PLC0415

    starter = WarmStarter(context.reaper, context.inherited_signals, captures_stderr=not interactive)
    return build(warm=starter), WarmStarts(starter)


async def _make_launcher(found: Resolved, context: ProcessContext, placement: Placement) -> Launcher:
    address, me = placement.address, placement.me
    hca = await asyncio.to_thread(choose_rdma_device, found, address.ifname, _log.warning)
    return Launcher(
        found,
        me.rank,
        (address.ifname, address.ip),
        leftovers.make_marker(me.incarnation),
        hca=hca,
        command_checks=_make_command_checks(context),
    )


def _make_command_checks(context: ProcessContext) -> CommandChecks:
    """Make checks whose commands run as children of this process."""

    def check(argv: Sequence[str], env: Mapping[str, str]) -> HealthCheck:
        from unitagent.workload.exec_probe import ExecProbe  # noqa: PLC0415 (few service files have one)

        return ExecProbe(context.reaper, context.inherited_signals, argv, env).run

    return check


@contextlib.asynccontextmanager
async def _run_probe_server(settings: Settings, views: Views, ip: str, keys: Keyring) -> AsyncIterator[None]:
    if not settings.http_port:
        yield
        return
    where = locate_store(settings, ip, keys)
    units = _make_observer(where, views, settings, keys) if settings.dashboard == "store" else None
    server = ProbeServer(views, keys, units, _collect_host_names(settings))
    await server.start(settings.http_host, settings.http_port)
    try:
        yield
    finally:
        await server.stop()


def _make_observer(where: StoreSetup, views: Views, settings: Settings, keys: Keyring) -> UnitSource:
    from unitagent.agent.store_observer import StoreObserver  # noqa: PLC0415 (few pages show more than their own Unit)

    return StoreObserver(where.url, views, settings, keys)


def _collect_host_names(settings: Settings) -> AllowedHosts:
    """Collect the names of this host and the Unit, and the user's; Envoy sends the name of its cluster."""
    try:
        known = parse_etc_hosts(Path("/etc/hosts").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        known = set()
    own = (socket.gethostname(), settings.http_host, settings.unit, settings.service, settings.master_address)
    return AllowedHosts([*filter(None, own), *known, *(settings.http_hosts or ())])


def build_rules(settings: Settings, me: Record, launch: Launch) -> CoreConfig:
    """Return the settings in the form that the core needs; ``launch``: of a dry run."""
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
        health=launch.health_probe is not None,
        owns_store=me.rank == 0 and settings.redis_url is None and settings.redis_url_file is None,
        store_timeout=settings.store_timeout,
        lease=settings.lease,
        heartbeat=settings.heartbeat,
        barrier_timeout=settings.barrier_timeout,
        startup=settings.startup,
        stop_grace=settings.stop_grace,
        restart_grace=settings.restart_grace,
        failure_grace=launch.restart_grace,
        drain=settings.drain,
        deregister=settings.deregister,
        max_restarts=settings.max_restarts,
        restart_window=settings.restart_window,
        backoff=settings.backoff,
        epoch=time.time() - time.monotonic(),
    )
