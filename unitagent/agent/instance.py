"""``unitagent run`` once its address is known: reach the store, claim a rank, build the agent and run it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.agent.agent_answers import AgentAnswers
from unitagent.agent.core_config import build_core_config, may_be_replaced
from unitagent.agent.endpoint_publisher import EndpointPublisher
from unitagent.agent.fingerprint import compute_fingerprint
from unitagent.agent.history_writer import HistoryWriter
from unitagent.agent.launch import Launch, Launcher, choose_defaults, make_cache_folders
from unitagent.agent.loop import Agent, Components
from unitagent.agent.process_context import ProcessContext, kill_former_workload, merge_user_environment
from unitagent.agent.rank_claim import Claimant, SpareEntry, claim_free_rank
from unitagent.agent.rank_search import NO_RANK, Claim, Spare
from unitagent.agent.secret_rotation import SecretAgreement, SecretFile
from unitagent.agent.spare_setup import find_kind_of_spare, make_peer_probe, make_spare_list, make_standby
from unitagent.agent.store_setup import EmbeddedStoreSupervisor, StoreSetup, locate_store
from unitagent.agent.workload_health import CommandChecks
from unitagent.core import rank_ownership
from unitagent.core.exits import ExitCode
from unitagent.core.model import Record
from unitagent.core.state import State, initial_state
from unitagent.discovery.interfaces import InstanceAddress
from unitagent.discovery.network import find_own_netns
from unitagent.probes.metrics import Metrics
from unitagent.probes.peers import PeerAsker, Peers
from unitagent.probes.server import AllowedHosts, ProbeServer, parse_etc_hosts
from unitagent.probes.unit_list import UnitAnswers
from unitagent.settings import Resolved, Settings
from unitagent.store.address import LocationSource
from unitagent.store.history import UnitHistory
from unitagent.store.redis_store import RedisStore
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring
from unitagent.system.log import LogContext
from unitagent.system.output_streams import STDERR, STDOUT
from unitagent.system.working_directory import resolve_user_path
from unitagent.workload import leftovers
from unitagent.workload.lifecycle import Workload
from unitagent.workload.output import OutputCapture

if TYPE_CHECKING:
    from unitagent.agent.evidence_collection import EvidenceCollection
    from unitagent.agent.evidence_trigger import EvidenceFiles, EvidenceTrigger
    from unitagent.agent.history_writer import HistoryKeeper
    from unitagent.agent.hook import HookRunner
    from unitagent.agent.keeper_runner import KeeperRunner
    from unitagent.agent.spare_watch import SpareWatch
    from unitagent.agent.standby import StandbyAnswers
    from unitagent.agent.warm_starts import WarmStartScheduler
    from unitagent.probes.health import HealthCheck
    from unitagent.probes.unit_list import UnitSource
    from unitagent.workload.file_warmer import FileWarmer

_log = logging.getLogger(__name__)

_COMPARED_A_SECOND = 10  # instances; the rate at which records that were read are compared with the store's
_LINGER = 1.0  # seconds that rank 0 keeps its embedded store so that the others can read its last record

Store = tuple[
    StoreSetup, EmbeddedStoreSupervisor | None
]  # its location, and its server if this instance runs it


async def run_instance(
    resolved: Resolved,
    log_context: LogContext,
    context: ProcessContext,
    address: InstanceAddress,
    store_setup: Store,
) -> int:
    """Join the Unit at this address and run until the end; return the exit code."""
    settings = resolved.settings
    incarnation = secrets.token_hex(8)
    async with (
        SecretFile(settings.secret_file, context.keys).watch_in_background(settings.heartbeat) as file,
        _open_stores(settings, incarnation, context, store_setup, file) as stores,
    ):
        warmer = _start_warming(settings)
        me = _make_record(resolved, incarnation, address)
        stores[0].set_rank(me.rank)
        claimed: Claim | None = Claim(me)
        if settings.rank is None or may_be_replaced(settings):
            claimed = await _stand_by(resolved, me, context, stores, warmer)
        if claimed is None:
            _log.info("the Unit was drained; this instance had no rank and leaves")
            return ExitCode.DONE
        log_context.rank = claimed.me.rank
        membership = Membership(address, claimed.me, claimed.took, file, *stores)
        return await _run_placed(resolved, log_context, context, membership, warmer)


class Membership(Struct, frozen=True):
    """Where this instance stands in the Unit; ``took``: the record whose place it has taken already."""

    address: InstanceAddress
    me: Record
    took: Record | None
    file: SecretFile
    store: RedisStore
    registry: Registry
    history: UnitHistory
    url: str | LocationSource


@contextlib.asynccontextmanager
async def _open_stores(
    settings: Settings, incarnation: str, context: ProcessContext, store_setup: Store, file: SecretFile
) -> AsyncIterator[tuple[RedisStore, Registry, UnitHistory, str | LocationSource]]:
    """The store, its list of Units, the Unit's history, and where they are."""
    setup, server = store_setup
    if server is not None:
        await server.wait_until_ready()
    store = RedisStore(
        settings.unit,
        setup.url,
        timeout=settings.timing.operation_timeout,
        incarnation=incarnation,
        keys=context.keys,
        needs_port=settings.http_port != 0,
        size=settings.size,
        refresh=max(settings.lease, settings.size / _COMPARED_A_SECOND),
        remedy=setup.remedy,
    )
    if server is not None:
        file.add_follower(partial(server.update_passwords, lambda: store.differing_ranks == frozenset()))
    try:
        timeout = settings.timing.operation_timeout
        registry = Registry(setup.url, timeout=timeout, keys=context.keys)
        yield store, registry, UnitHistory(settings.unit, setup.url, timeout=timeout), setup.url
    finally:
        await store.close()
        if server is not None and settings.size > 1:
            await asyncio.sleep(_LINGER)


def _start_warming(settings: Settings) -> FileWarmer | None:
    """Begin to read the files of ``UNIT_WARM_FILES``, if there are any."""
    if settings.warm_files is None:
        return None
    from unitagent.workload.file_warmer import FileWarmer  # noqa: PLC0415 (few ask for it)

    warmer = FileWarmer([*map(resolve_user_path, settings.warm_files)], _log.info)
    warmer.start()
    return warmer


def _make_record(resolved: Resolved, incarnation: str, address: InstanceAddress) -> Record:
    settings = resolved.settings
    return Record(
        rank=settings.rank or 0,
        incarnation=incarnation,
        size=settings.size,
        ip=address.ip,
        port=settings.http_port,
        netns=find_own_netns(settings.http_host, settings.http_port, address.ip),
        hostname=_make_printable(socket.gethostname()),
        revision=settings.revision,
        fingerprint=_fingerprint_settings(resolved),
        lease=settings.lease,
    )


async def _stand_by(
    resolved: Resolved,
    me: Record,
    context: ProcessContext,
    stores: tuple[RedisStore, Registry, UnitHistory, str | LocationSource],
    warmer: FileWarmer | None,
) -> Claim | None:
    """Claim a rank, and answer probes as a standby until there is one; None if the Unit is drained first."""
    from unitagent.agent.standby import StandbyAnswers  # noqa: PLC0415 (most have their rank)

    settings = resolved.settings
    kind = find_kind_of_spare(resolved)
    spares = make_spare_list(settings, context, stores[-1])
    standby = make_standby(resolved, me)
    claimant = Claimant(
        stores[0],
        me,
        guard=settings.guard,
        timing=settings.timing,
        ask=make_peer_probe(settings, me, context),
        spare=kind,
        entry=None if kind is Spare.NONE else SpareEntry(spares, standby, size=me.size, lease=settings.lease),
    )
    answers = StandbyAnswers(settings, claimant, me, _make_metrics(settings, NO_RANK, context), warmer)
    try:
        async with _run_probe_server(settings, answers, me.ip, context.keys):
            claimed = await claim_free_rank(claimant, store_timeout=settings.store_timeout)
    finally:
        await claimant.close()
        await spares.close()
    if claimed is not None and claimed.me is not me:
        _log.info("claimed rank %d", claimed.me.rank)
        await kill_former_workload(settings.unit, claimed.me.rank)
    return claimed


def _make_printable(hostname: str) -> str:
    """Replace what a record cannot hold: the kernel accepts any bytes as a host name."""
    return "".join(letter if letter.isprintable() else "?" for letter in hostname)


def _fingerprint_settings(resolved: Resolved) -> str:
    """Fingerprint the user's command and environment, and the settings of the Unit."""
    settings = resolved.settings
    environ, keeper = merge_user_environment(resolved), settings.keeper or ()
    return compute_fingerprint(settings.command, settings.uniform, environ, keeper)


async def _run_placed(
    resolved: Resolved,
    log_context: LogContext,
    context: ProcessContext,
    membership: Membership,
    warmer: FileWarmer | None,
) -> int:
    settings, me = resolved.settings, membership.me
    launcher = await _make_launcher(resolved, context, membership)
    dry_run = launcher.prepare_dry_run()
    _log_launch(dry_run)
    state = _make_first_state(settings, membership, dry_run)
    agent = Agent(state, log_context, settings.stall, settings.termination_log)
    history = HistoryWriter(membership.history, state, _make_keeper(settings, membership.history, state))
    workload, warm = _make_workload(settings, context, agent)
    metrics = _make_metrics(settings, me.rank, context)
    peers = _make_peers(settings, context, membership, agent)
    evidence = _make_evidence(settings, context, membership, history)
    agent.attach_components(
        Components(
            store=membership.store,
            workload=workload,
            peers=peers,
            launcher=launcher,
            metrics=metrics,
            watchdog=context.watchdog,
            history=history,
            warmer=warmer,
            hook=_make_hook(settings, context),
            evidence=evidence,
            warm=warm,
            keeper=_make_keeper_runner(context, launcher, metrics, agent, warmer=warmer, evidence=evidence),
        )
    )
    agreement = _make_agreement(agent, membership, context.keys)
    answers = AgentAnswers(
        agent, metrics, settings.dashboard, agreement, warmer=warmer, traffic_port=dry_run.traffic_port
    )
    announcer = EndpointPublisher(membership.registry, answers, settings, me.ip, dry_run.traffic_port or 0)
    answers.spares = _make_spare_watch(settings, context, membership)
    answers.recall_events = history.recall_events
    async with (
        history.write_in_background(),
        _run_probe_server(settings, answers, me.ip, context.keys, _open_evidence(settings, me.rank)),
        announcer.publish_in_background() if me.rank == 0 else contextlib.nullcontext(),
        answers.spares.watch_in_background() if answers.spares else contextlib.nullcontext(),
    ):
        if warm is not None and settings.warm == "first" and not me.tenure:  # a claim cannot wait
            await warm.prepare_first(dry_run)
        return await agent.run(context.inherited_signals)


def _make_peers(settings: Settings, context: ProcessContext, membership: Membership, agent: Agent) -> Peers:
    asker = PeerAsker(settings.unit, membership.me.incarnation, context.keys)
    return Peers(asker, membership.address.ip, settings.timing.peer_timeout, agent.on_hangup)


def _make_agreement(agent: Agent, membership: Membership, keys: Keyring) -> SecretAgreement:
    agreement = SecretAgreement(agent, membership.store, keys)
    membership.file.add_follower(agreement.check_agreement)
    return agreement


def _make_spare_watch(
    settings: Settings, context: ProcessContext, membership: Membership
) -> SpareWatch | None:
    """Make the watch over the spares, at rank 0 of a Unit that has some."""
    if membership.me.rank != 0 or not may_be_replaced(settings):
        return None
    from unitagent.agent.spare_watch import SpareWatch  # noqa: PLC0415 (few Units have spares)

    return SpareWatch(
        make_spare_list(settings, context, membership.url),
        make_peer_probe(settings, membership.me, context),
        size=settings.size,
        wanted=settings.spares,
        lease=settings.lease,
    )


def _make_first_state(settings: Settings, membership: Membership, launch: Launch) -> State:
    me, has_check = membership.me, launch.health_probe is not None
    grace, framework = launch.restart_grace, launch.framework
    config = build_core_config(settings, me, health=has_check, failure_grace=grace, framework=framework)
    state = initial_state(config, me, time.monotonic())
    return state if membership.took is None else rank_ownership.succeed_holder(state, membership.took)


def _make_keeper(settings: Settings, history: UnitHistory, state: State) -> HistoryKeeper | None:
    """Make a keeper of the history where the store is embedded, and ends with rank 0; a few ranks suffice."""
    if not settings.has_embedded_store:
        return None
    from unitagent.agent.history_writer import KEEPERS, HistoryKeeper  # noqa: PLC0415 (few agents have one)

    return HistoryKeeper(history, state.config.epoch) if state.config.rank in KEEPERS else None


def _make_keeper_runner(
    context: ProcessContext,
    launcher: Launcher,
    metrics: Metrics,
    agent: Agent,
    *,
    warmer: FileWarmer | None,
    evidence: EvidenceTrigger | None,
) -> KeeperRunner | None:
    if not agent.state.config.keepers:
        return None
    from unitagent.agent.keeper_runner import KeeperProcess, KeeperRunner  # noqa: PLC0415 (few have one)

    processes = KeeperProcess(context.reaper, context.inherited_signals)
    return KeeperRunner(launcher, metrics, agent, processes, warmer=warmer, evidence=evidence)


def _make_metrics(settings: Settings, rank: int, context: ProcessContext) -> Metrics:
    service = settings.service or settings.unit
    metrics = Metrics(rank, unit=settings.unit, service=service, revision=settings.revision)
    context.reaper.orphan_listeners.append(lambda *_: metrics.observe_reaped())
    return metrics


def _log_launch(launch: Launch) -> None:
    for notice in launch.notices:
        _log.warning("%s", notice)
    if launch.health_probe is not None:
        _log.info("rank 0's health: %s", launch.health_probe.description)


def _make_workload(
    settings: Settings, context: ProcessContext, agent: Agent
) -> tuple[Workload, WarmStartScheduler | None]:
    captured = _choose_captured()
    build = partial(
        Workload,
        context.reaper,
        context.inherited_signals,
        on_exit=agent.on_exit,
        output=OutputCapture(captured),
    )
    if settings.warm == "off":
        return build(), None
    from unitagent.agent.warm_starts import WarmStartScheduler  # noqa: PLC0415 (few agents have them)
    from unitagent.workload.warm_gate import ANSWER_SECONDS  # noqa: PLC0415
    from unitagent.workload.warm_start import WarmStarter  # noqa: PLC0415

    starter = WarmStarter(
        context.reaper,
        context.inherited_signals,
        captured=captured,
        answer_seconds=min(ANSWER_SECONDS, settings.lease / 2),
    )
    return build(warm=starter), WarmStartScheduler(starter)


def _choose_captured() -> tuple[int, ...]:
    """Return which of the workload's stdout and stderr are relayed: none on an interactive terminal, and no
    stdout that is a terminal or closed.
    """
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        return ()
    return (STDERR,) if sys.stdout is None or sys.stdout.isatty() else (STDOUT, STDERR)


async def _make_launcher(resolved: Resolved, context: ProcessContext, membership: Membership) -> Launcher:
    address, me = membership.address, membership.me
    defaults = await asyncio.to_thread(choose_defaults, resolved, address.ifname, me.rank, _log.warning)
    usable = await asyncio.to_thread(make_cache_folders, resolved, defaults, _log.warning)
    return Launcher(
        resolved,
        me.rank,
        (address.ifname, address.ip),
        leftovers.make_marker(me.incarnation),
        defaults=usable,
        command_checks=_make_command_checks(context),
    )


def _make_hook(settings: Settings, context: ProcessContext) -> HookRunner | None:
    if settings.hook is None:
        return None
    from unitagent.agent.hook import HookRunner  # noqa: PLC0415 (few users have one)

    return HookRunner(settings.hook, context.reaper, context.inherited_signals, os.environ)


def _make_evidence(
    settings: Settings, context: ProcessContext, membership: Membership, history: HistoryWriter
) -> EvidenceTrigger | None:
    """Make the collector of evidence; most of it is imported when there is something to collect."""
    if settings.evidence <= 0:
        return None
    from unitagent.agent.evidence_trigger import EvidenceTrigger  # noqa: PLC0415 (it can be off)

    def make_collection() -> EvidenceCollection:
        from unitagent.agent.evidence_collection import EvidenceCollection  # noqa: PLC0415 (few ever fail)
        from unitagent.evidence.folder import choose_root  # noqa: PLC0415
        from unitagent.store.evidence_index import EvidenceIndex  # noqa: PLC0415

        index = EvidenceIndex(settings.unit, membership.url, timeout=settings.timing.operation_timeout)
        root = choose_root(settings.evidence_dir, os.environ)
        me = settings.unit, membership.me.rank
        return EvidenceCollection(index, context.reaper, root, me, history.add_event)

    return EvidenceTrigger(settings.evidence, make_collection)


def _make_command_checks(context: ProcessContext) -> CommandChecks:
    """Make checks whose commands run as children of this process."""

    def check(argv: Sequence[str], env: Mapping[str, str]) -> HealthCheck:
        from unitagent.workload.exec_probe import ExecProbe  # noqa: PLC0415 (few service files have one)

        return ExecProbe(context.reaper, context.inherited_signals, argv, env).run

    return check


@contextlib.asynccontextmanager
async def _run_probe_server(
    settings: Settings,
    answers: AgentAnswers | StandbyAnswers,
    ip: str,
    keys: Keyring,
    evidence: EvidenceFiles | None = None,
) -> AsyncIterator[None]:
    if not settings.http_port:
        yield
        return
    where = locate_store(settings, ip, keys)
    units = None
    if answers.get_dashboard() != "off":
        make = partial(_make_observer, where, answers, settings, keys)
        units = UnitAnswers(make, every_unit=answers.get_dashboard() == "store")
    hosts = _collect_host_names(settings)
    server = ProbeServer(answers, keys, units, hosts, settings.size, evidence=evidence)
    await server.start(settings.http_host, settings.http_port)
    try:
        yield
    finally:
        await server.stop()


def _open_evidence(settings: Settings, rank: int) -> EvidenceFiles | None:
    if settings.evidence <= 0:
        return None
    from unitagent.agent.evidence_trigger import EvidenceFiles  # noqa: PLC0415 (it can be off)

    return EvidenceFiles(settings.evidence_dir, settings.unit, rank)


def _make_observer(
    where: StoreSetup, answers: AgentAnswers | StandbyAnswers, settings: Settings, keys: Keyring
) -> UnitSource:
    from unitagent.agent.store_observer import StoreObserver  # noqa: PLC0415 (few pages are ever looked at)

    return StoreObserver(where.url, answers, settings, keys, answers.recall_events)


def _collect_host_names(settings: Settings) -> AllowedHosts:
    """Collect the names of this host and the Unit, and the user's; Envoy sends the name of its cluster."""
    try:
        known = parse_etc_hosts(Path("/etc/hosts").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        known = set()
    own = (socket.gethostname(), settings.http_host, settings.unit, settings.service, settings.master_address)
    return AllowedHosts([*filter(None, own), *known, *(settings.http_hosts or ())])
