"""``unitagent doctor``: checks everything that an agent needs here, concurrently, and changes nothing.

The invariant: the checks need no privilege, write nothing, and each has a deadline.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from unitagent import engine_commands, setting_parsers
from unitagent.agent.launch import Launcher, list_replaced_variables, place_caches
from unitagent.agent.store_setup import StoreSetup, locate_store, refuse_open_store
from unitagent.core.probe_paths import LIVE
from unitagent.core.spares import describe_spares
from unitagent.discovery.network import find_instance_address
from unitagent.discovery.rdma import find_hca
from unitagent.errors import ConfigurationError, StoreError
from unitagent.operator import probe_client
from unitagent.operator.doctor import (
    container_checks,
    network_checks,
    store_checks,
    variable_checks,
    warm_checks,
)
from unitagent.operator.doctor.findings import Finding, fail, ok, warn
from unitagent.operator.doctor.store_checks import query_store
from unitagent.operator.store_locator import ask_own_agent
from unitagent.probes.admission import count_wanted_places
from unitagent.settings import Resolved, Settings
from unitagent.store.embedded import find_server
from unitagent.store.keys import KeyNames
from unitagent.store.spare_list import UnitSpares
from unitagent.system import procfs
from unitagent.system.addresses import is_loopback
from unitagent.system.host_port import join_host_port
from unitagent.system.memory import read_available
from unitagent.system.threads import run_in_thread_or_here
from unitagent.workload import engine_caches, engine_python, file_warmer
from unitagent.workload.kept_files import take_snapshot
from unitagent.workload.leftovers import has_agent
from unitagent.workload.python_command import UnresolvedError, resolve_warm
from unitagent.workload.reaper import become_subreaper
from unitagent.workload.resource_release import find_gpu_holders

_INTERFACE_SECONDS = 2.0
_GPUS = "/dev/nvidia"  # prefix of the paths of GPUs; a number follows
_TIMEOUT = 5.0  # seconds for a store, a resolver or a peer

Peer = tuple[str, int]
Findings = Sequence[Finding]


def parse_peer(text: str) -> Peer:
    """Parse a value of ``--peer``.

    Raises:
        ConfigurationError: the value is not an address with a port.

    """
    try:
        host, port = setting_parsers.parse_listen_address(text)
        return str(ip_address(host)), port
    except ValueError as error:
        accepted = "must be IP:PORT or [IPv6 address]:PORT"
        raise ConfigurationError(f"--peer={text!r}: {accepted}") from error


def examine_container(resolve: Callable[[bool], Resolved], peers: Sequence[Peer]) -> Findings:
    """Run every check; ``resolve`` returns the settings, with or without an identity."""
    resolved, findings = _resolve_partially(resolve)
    return [*findings, *asyncio.run(_run_checks(resolved, peers))]


def _resolve_partially(resolve: Callable[[bool], Resolved]) -> tuple[Resolved | None, list[Finding]]:
    """Resolve as much as possible: a missing rank must not hide a missing interface."""
    problems: list[Finding] = []
    for identity in (True, False):
        try:
            resolved = resolve(identity)
        except ConfigurationError as error:
            remedy = "correct this, then check with `unitagent env`"
            problems = problems or [fail("settings", problem, remedy) for problem in error.problems]
            continue
        warnings = [warn("settings", text, "see `unitagent env`") for text in resolved.warnings]
        return resolved, [*problems, *warnings] or [ok("settings", _describe_instance(resolved))]
    return None, problems


def _describe_instance(resolved: Resolved) -> str:
    settings, platform = resolved.settings, f" ({resolved.platform})" if resolved.platform else ""
    rank = "a free rank" if settings.rank is None else f"rank {settings.rank}"
    return f"{rank} of {settings.size} of Unit {settings.unit}{platform}"


@dataclass(frozen=True, slots=True)
class _Instance:
    """This instance, as far as it is known; ``agent``: whether one answers at its probe address."""

    found: Resolved
    place: variable_checks.AddressContext
    agent: bool

    @property
    def settings(self) -> Settings:
        return self.found.settings


async def _run_checks(resolved: Resolved | None, peers: Sequence[Peer]) -> Findings:
    if resolved is None:
        return await asyncio.to_thread(_check_machine, None, variable_checks.AddressContext())
    ifname, ip, addressed = await _check_address(resolved.settings)
    place = _build_address_context(resolved, ip, ifname)
    here = _Instance(resolved, place, await asyncio.to_thread(_agent_answers, resolved.settings))
    looks: list[Awaitable[Findings]] = [
        _check_leader(here),
        _check_store(here),
        asyncio.to_thread(_check_ports, here),
        asyncio.to_thread(_check_machine, resolved, place),
        *(
            run_in_thread_or_here(partial(_check_peer, one, ip))
            for one in [*peers, *await asyncio.to_thread(_find_other_ranks, here)]
        ),
    ]
    return [addressed, *(finding for seen in await asyncio.gather(*looks) for finding in seen)]


def _build_address_context(resolved: Resolved, ip: str, ifname: str) -> variable_checks.AddressContext:
    settings, master_address = resolved.settings, resolved.settings.master_address or ""
    leader = tuple(filter(None, (ip, master_address) if settings.rank == 0 else (master_address,)))
    return variable_checks.AddressContext(ip, ifname, settings.rank, settings.size, leader)


def _find_other_ranks(here: _Instance) -> list[Peer]:
    """Return the other ranks that the agent in this container knows."""
    seen: dict[str, Any] = {}
    with suppress(StoreError):  # the answer carries no proof of the secret
        seen = (ask_own_agent(here.settings, here.settings.keys) if here.agent else None) or {}
    mine = here.settings.rank, here.place.ip  # with RANK_ID=auto, only the address identifies this rank
    others = [one for one in seen.get("instances", ()) if one.get("rank") != mine[0]]
    return [
        (one["ip"], here.settings.http_port) for one in others if one.get("ip") not in {None, "", mine[1]}
    ]


async def _check_address(settings: Settings) -> tuple[str, str, Finding]:
    try:
        address = await find_instance_address(
            settings.ifname, settings.rank_ip, _INTERFACE_SECONDS, lambda _: None
        )
    except ConfigurationError as error:
        remedy = "attach the network to this container"
        return settings.ifname or "", "", fail("address", str(error), remedy)
    judged = network_checks.judge_address(address.ifname, address.ip, settings.size, address.notice)
    return address.ifname, address.ip, judged


def _agent_answers(settings: Settings) -> bool:
    if not settings.http_port:
        return False
    return probe_client.send_probe(LIVE.path, settings.http_host, settings.http_port, _INTERFACE_SECONDS)[0]


async def _check_leader(here: _Instance) -> Findings:
    settings = here.settings
    if settings.master_address is None:
        return []
    try:
        async with asyncio.timeout(_TIMEOUT):
            lookup = await run_in_thread_or_here(
                partial(network_checks.resolve_name, settings.master_address)
            )
    except TimeoutError:
        lookup = network_checks.Lookup(settings.master_address, (), _TIMEOUT, "the resolver does not answer")
    return [
        network_checks.judge_leader(lookup, settings.rank, here.place.ip, needed=settings.has_embedded_store)
    ]


async def _check_store(here: _Instance) -> Findings:
    settings = here.settings
    if settings.has_embedded_store and (settings.rank is None or (settings.rank == 0 and not here.place.ip)):
        return []  # reported already: no rank, or no address for the store to listen on
    try:
        where = locate_store(settings, here.place.ip, settings.keys)
    except ConfigurationError as error:
        return [fail("store", str(error), "set UNIT_REDIS_URL or MASTER_ADDRESS")]
    if where.embedded_here and not here.agent:
        return [_check_embedded_store(settings, where)]
    try:
        asked = await query_store(
            where.url, KeyNames(settings.unit), _TIMEOUT, embedded=settings.has_embedded_store
        )
    except StoreError as error:
        return [store_checks.judge_store_error(error, elsewhere=settings.has_embedded_store)]
    found = list(store_checks.judge_store(asked, settings.timing.operation_timeout))
    return [*found, *await _check_spares(here, where)]


async def _check_spares(here: _Instance, where: StoreSetup) -> Findings:
    """Check whether as many spares stand by as there should be; before the Unit runs none can."""
    settings = here.settings
    if not settings.spares or not here.agent:
        return []
    spares = UnitSpares(settings.unit, where.url, size=settings.size, timeout=_TIMEOUT, keys=settings.keys)
    try:
        listed = await spares.read()
    except StoreError:
        return []  # reported already
    finally:
        await spares.close()
    return [store_checks.judge_spares(describe_spares(listed, settings.lease, wanted=settings.spares))]


def _check_embedded_store(settings: Settings, where: StoreSetup) -> Finding:
    try:
        find_server()
    except ConfigurationError as error:
        return fail("store", str(error), "pip install unitagent[embedded], or set UNIT_REDIS_URL")
    refusal = ""
    try:
        refuse_open_store(settings, where)
    except ConfigurationError as error:
        refusal = str(error)
    open_to_all = not where.keys and not is_loopback(where.ip)
    return store_checks.judge_embedded(join_host_port(where.ip, where.port), refusal, open_to_all=open_to_all)


def _check_ports(here: _Instance) -> Findings:
    settings, ip = here.settings, here.place.ip
    listeners = [("probes (UNIT_HTTP_ADDRESS)", settings.http_host, settings.http_port)]
    if settings.rank == 0 and ip and settings.has_embedded_store:
        listeners.append(("the embedded store", ip, locate_store(settings, ip, settings.keys).port))
    tried = (network_checks.try_port(what, host, port) for what, host, port in listeners if port)
    heard = network_checks.judge_probes(settings.http_host, settings.http_port, ip, settings.size)
    return [*heard, *(network_checks.judge_port(port, agent=here.agent) for port in tried)]


def _count_agent_files(resolved: Resolved | None) -> int:
    """Count the files that an agent may open: as many as there are places for connections, twice."""
    return 0 if resolved is None else 2 * count_wanted_places(resolved.settings.size)


def _check_machine(resolved: Resolved | None, place: variable_checks.AddressContext) -> Findings:
    """Run the checks without network: devices, limits, variables, processes."""
    seen, wanted = find_rdma_devices(place.ifname), resolved is not None and resolved.settings.rdma == "auto"
    first = procfs.read_process(1)
    findings = [
        *container_checks.judge_limits(
            container_checks.read_limits(), rdma=bool(seen.names), agent_files=_count_agent_files(resolved)
        ),
        *container_checks.judge_rdma(seen, place.ifname, wanted=wanted),
        *check_gpus(_GPUS),
        *variable_checks.judge_variables(_read_workload_environment(resolved), place),
        container_checks.judge_init(os.getpid(), first.name if first else "", subreaper=become_subreaper()),
    ]
    if resolved is not None:
        findings += [*check_caches(resolved), *check_warm_files(resolved), *check_kept_files(resolved)]
        findings += check_warm(resolved, place.ifname, place.ip)
        grace, source = resolved.settings.stop_grace, resolved.sources["UNIT_STOP_GRACE_SECONDS"]
        findings.append(
            container_checks.judge_grace(grace, source, container_checks.detect_engine(os.environ))
        )
    return findings


def check_caches(resolved: Resolved) -> Findings:
    """Check where an engine keeps what it compiled; nothing is found for a command that starts none."""
    command, starts = resolved.settings.command, engine_commands.START_WORDS
    engine = next(
        (name for name in engine_caches.USUAL if engine_commands.find_start(command, starts[name])), None
    )
    if engine is None:
        return []
    placed = place_caches(resolved, resolved.settings.rank or 0)
    environment = {**placed, **_read_workload_environment(resolved)}
    folder, origin = engine_caches.find_cache(engine, environment)
    origin = "UNIT_CACHE_DIR" if placed.get(origin) == folder else origin
    lost = engine_caches.is_lost_with_container(folder)
    return [container_checks.judge_caches(folder, origin, lost=lost)]


def check_warm_files(resolved: Resolved) -> Findings:
    """Check whether the files of ``UNIT_WARM_FILES`` exist and fit, and whether reading them ahead serves."""
    if resolved.settings.warm_files is None:
        return []
    try:
        sizes = dict(file_warmer.find_files(resolved.settings.warm_files))
    except OSError as error:
        return [container_checks.judge_warm_files(f"{error.strerror}: {error.filename}", "")]
    refusal = file_warmer.explain_refusal(sizes, read_available())
    return [container_checks.judge_warm_files(refusal, file_warmer.find_bypass(resolved.settings.command))]


def check_kept_files(resolved: Resolved) -> Findings:
    """Check whether a change of the files of ``UNIT_KEEPER_FILES`` would be noticed."""
    if resolved.settings.keeper_files is None:
        return []
    try:
        seen = take_snapshot(resolved.settings.keeper_files)
    except OSError as error:
        return [container_checks.judge_kept_files(0, f"{error.strerror}: {error.filename}")]
    return [container_checks.judge_kept_files(len(seen), "" if seen else "there is none")]


def check_warm(resolved: Resolved, ifname: str, ip: str) -> Findings:
    """Check whether COMMAND would start warm; nothing is found where ``UNIT_WARM`` is off."""
    mode = resolved.settings.warm
    if mode == "off":
        return []
    if not resolved.settings.command:
        return [warm_checks.judge_no_command(mode)]
    try:
        launcher = Launcher(resolved, resolved.settings.rank or 0, (ifname, ip or "127.0.0.1"), marker="")
        launch = launcher.prepare_dry_run(resolved.settings.master_address)
        command = resolve_warm(launch.argv, launch.env, launch.warm_modules)
        python = engine_python.ask_python(command, launch.env, launch.warm_modules)
    except (ConfigurationError, UnresolvedError, OSError, ValueError) as error:
        return [warm_checks.judge_cold(str(error))]
    found = warm_checks.WarmStart(
        command.interpreter,
        python.version,
        launch.warm_modules,
        python.absent,
        python.hooks,
        engine_python.explain_kernel(),
        shows_environment=engine_python.shows_environment(),
    )
    return [warm_checks.judge_warm(found)]


def _read_workload_environment(resolved: Resolved | None) -> dict[str, str]:
    """Return what a workload's environment is made from, without what the agent replaces."""
    environ = {name: text for name, text in os.environ.items() if text}
    if resolved is None:
        return environ
    replaced = list_replaced_variables(resolved)
    return {**resolved.environment, **{name: text for name, text in environ.items() if name not in replaced}}


def check_gpus(beginning: str) -> Findings:
    """Check the GPUs whose device paths have this prefix."""
    folder, _, name = beginning.rpartition("/")
    number = len(list(Path(folder).glob(f"{name}[0-9]*")))
    holders = [
        (holder.pid, holder.name, device)
        for holder, device in find_gpu_holders(beginning)
        if not has_agent(holder.pid)
    ]
    return list(container_checks.judge_gpus(number, holders))


def find_rdma_devices(ifname: str, root: Path = Path("/")) -> container_checks.RdmaDevices:
    """Find the RDMA devices, and the port of an interface with its GID table."""
    names = sorted(path.name for path in (root / "sys/class/infiniband").glob("*"))
    hca = find_hca(ifname, root) if ifname and names else None
    if hca is None:
        return container_checks.RdmaDevices(names)
    gids = [" ".join((str(gid.index), gid.kind or "of unknown kind", gid.gid)) for gid in hca.gids]
    description = f"{hca.name} port {hca.port} ({hca.link_layer or 'unknown link layer'})"
    return container_checks.RdmaDevices(names, description, gids, hca.problems)


def _check_peer(to: Peer, ip: str) -> Findings:
    return [network_checks.judge_peer(network_checks.try_peer(*to, _TIMEOUT), ip)]
