"""From a gang to a launch: the command line, its environment, and its health probe."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from unitagent.agent.workload_health import (
    NO_COMMAND_CHECKS,
    CommandChecks,
    HealthProbeBuilder,
    HealthProbePlan,
)
from unitagent.core.model import Gang
from unitagent.core.shutdown import LEADER_STOP_FRACTION
from unitagent.discovery.platforms import find_rendezvous_variables
from unitagent.errors import ConfigurationError
from unitagent.probes.health import EngineGauges
from unitagent.probes.in_flight import InFlightRequests
from unitagent.setting_parsers import parse_filled_readiness, redact_url
from unitagent.settings import Resolved, Settings
from unitagent.settings.variables import AUTO_KEEPER
from unitagent.system import redaction, working_directory
from unitagent.workload.environment import (
    GangInfo,
    build_environment,
    explain_pairs,
    explain_variables,
    fill_placeholders,
)
from unitagent.workload.leftovers import make_keeper_marker

if TYPE_CHECKING:
    from unitagent.agent.keeper_runner import KeeperLaunch
    from unitagent.frameworks.completer import CompletedCommand
    from unitagent.frameworks.interface import LaunchPlan, PhaseLine, RankContext
    from unitagent.frameworks.shell_text import PlainCommand


_UNKNOWN_HEALTH = (
    "the health URL and port of the workload are unknown{}: ready only means that its process runs, and a "
    "drain does not wait for requests; set UNIT_HEALTH_URL (http://127.0.0.1:PORT/health) and "
    "UNIT_TRAFFIC_PORT"
)
_KEEPER_PORT = 29400  # of a keeper, in a dry run
_LONGEST_COMMAND = 1000  # characters
_ENDING = 1.0  # seconds that an engine takes to exit once it is idle
NEVER_WARM = {  # the report of a start, where there is only one way to start
    "kind": "cold",
    "why": "UNIT_WARM=off",
    "fork_seconds": None,
    "saved_seconds": None,
    "late_imports": {},
    "next": {"kind": "cold", "why": "UNIT_WARM=off"},
    "message": None,
}


class Launch(Struct, frozen=True):
    """One start of the workload on this rank.

    Attributes:
        origins: flag or variable that a framework added -> a sentence why.
        health_probe: how its health is checked; None if it has no check.
        inflight: counts its requests in flight; None if its port is unknown.
        gauges: the metrics that show its progress; None if it has none.
        traffic_port: its port for user traffic at rank 0; None if unknown.
        required_processes: prefixes of the names of processes that it cannot run without.
        ignores_sigterm: it ignores SIGTERM, so a grace period would be wasted.
        restart_grace: seconds from SIGTERM to SIGKILL after a failure; None for the setting's.
        warm_modules: what a warm start has imported.
        phase_lines: lines of its output that tell how far its start is.
        notices: warnings to log once.
        framework: which one has completed the command line; empty for none.

    """

    argv: list[str]
    env: dict[str, str]
    origins: Mapping[str, str]
    health_probe: HealthProbePlan | None
    inflight: InFlightRequests | None
    gauges: EngineGauges | None = None
    traffic_port: int | None = None
    required_processes: tuple[str, ...] = ()
    ignores_sigterm: bool = False
    restart_grace: float | None = None
    warm_modules: tuple[str, ...] = ()
    phase_lines: tuple[PhaseLine, ...] = ()
    notices: tuple[str, ...] = ()
    framework: str = ""

    def describe_command(self) -> str:
        """Return framework and command line in one line for people, without secrets."""
        import shlex  # noqa: PLC0415 (needed once the workload runs, and no sooner)

        words = shlex.join(redaction.redact_words(self.argv))
        shown = words if len(words) <= _LONGEST_COMMAND else f"{words[:_LONGEST_COMMAND]} …"
        return f"{self.framework}: {shown}" if self.framework else shown


def choose_defaults(
    resolved: Resolved, ifname: str, rank: int, warn: Callable[[str], None]
) -> dict[str, str]:
    """Return the variables that a workload gets where the user has set none. Blocks."""
    hca = choose_rdma_device(resolved, ifname, warn)
    return place_caches(resolved, rank) | ({"NCCL_IB_HCA": hca} if hca else {})


def place_caches(resolved: Resolved, rank: int) -> dict[str, str]:
    """Return the variables that place the engine's caches in ``UNIT_CACHE_DIR``."""
    root = resolved.settings.cache_dir
    if root is None:
        return {}
    from unitagent.workload import engine_caches  # noqa: PLC0415 (few ask for it)

    return engine_caches.place_caches(working_directory.resolve_user_path(root), rank)


def make_cache_folders(
    resolved: Resolved, defaults: Mapping[str, str], warn: Callable[[str], None]
) -> Mapping[str, str]:
    """Make the folders of ``UNIT_CACHE_DIR``, and return the variables of those that can be used: compilers
    fail where they cannot write, so without them the engine takes its own folders. Blocks.
    """
    if resolved.settings.cache_dir is None:
        return defaults
    from unitagent.workload import engine_caches  # noqa: PLC0415 (few ask for it)

    try:
        engine_caches.make_folders(defaults[name] for name in engine_caches.CACHES)
    except OSError as error:
        where = f"UNIT_CACHE_DIR={resolved.settings.cache_dir!r} ({resolved.sources['UNIT_CACHE_DIR']})"
        remedy = "the engine keeps no caches there; mount a directory that this user can write to"
        warn(f"{where}: {error.strerror}: {error.filename}: {remedy}")
        return {name: value for name, value in defaults.items() if name not in engine_caches.CACHES}
    return defaults


def choose_rdma_device(
    resolved: Resolved, ifname: str, warn: Callable[[str], None], root: Path = Path("/")
) -> str:
    """Return a value for ``NCCL_IB_HCA`` if the user wants the interface's RDMA device. Blocks."""
    chosen = os.environ.get("NCCL_IB_HCA") or resolved.environment.get("NCCL_IB_HCA")
    if resolved.settings.rdma != "auto" or chosen:
        return ""
    from unitagent.discovery.rdma import find_hca  # noqa: PLC0415 (few ask for it)

    hca = find_hca(ifname, root)
    if hca is not None and hca.usable:
        return str(hca.nccl)
    why = "; ".join(hca.problems) if hca else "none belongs to it"
    warn(f"UNIT_RDMA=auto: no RDMA device of interface {ifname} can be used: {why}")
    return ""


def list_replaced_variables(resolved: Resolved) -> frozenset[str]:
    """Return the variables that the platform which gave the rank has set for its own rendezvous.

    That rendezvous is the same in every generation, so processes of an older one could meet the new ones.
    """
    by_platform = resolved.sources["RANK_ID"].startswith("platform ")
    return find_rendezvous_variables(resolved.platform, os.environ) if by_platform else frozenset()


def _compute_shutdown_timeout(settings: Settings) -> int:
    """Return how many seconds an engine may spend on requests in flight after SIGTERM.

    It is the rest of rank 0's share of the stop grace after the drain. After a failure the same signal stops
    the engine, which would then wait for requests that can never finish: at most half of that grace.
    """
    left = LEADER_STOP_FRACTION * settings.stop_grace - settings.deregister - settings.drain - _ENDING
    return max(1, int(min(left, settings.restart_grace / 2)))


def _find_keeper(gang: Gang) -> tuple[int, int] | None:
    """Return generation and master port of the keepers that the gang's workload uses; None for none."""
    generation, _, rest = (gang.keepers or "").partition(":")
    return (int(generation), int(rest.partition(":")[0])) if rest else None


def _find_model(plan: LaunchPlan) -> tuple[str, ...]:
    """Return the path of the engine's model; nothing where that is a name of a hub."""
    path = plan.model
    is_path = path.startswith("/") or (path and Path(working_directory.resolve_user_path(path)).exists())
    return (path,) if is_path else ()


def _check_readiness(written: str, filled: str) -> None:
    try:
        parse_filled_readiness(filled)
    except ValueError:
        shown = "" if filled == written else f", which is {_show_readiness(filled)} for this rank"
        raise ConfigurationError(
            f"UNIT_KEEPER_READY={_show_readiness(written)}{shown}: must be a URL with a host, tcp:PORT, "
            "file:PATH or log:PATTERN"
        ) from None


def _show_readiness(value: str) -> str:
    return redact_url(value) if value.startswith("http") else value


class Launcher:
    """Turns the user's command and settings into a ``Launch`` for each gang."""

    def __init__(
        self,
        resolved: Resolved,
        rank: int,
        interface: tuple[str, str],
        marker: str,
        *,
        defaults: Mapping[str, str] = MappingProxyType({}),
        command_checks: CommandChecks = NO_COMMAND_CHECKS,
    ) -> None:
        """Keep what is the same for every gang.

        Args:
            resolved: the settings, and what the service file adds to the environment.
            rank: rank of this instance.
            interface: name of the network interface, and our address on it.
            marker: value by which a later agent recognizes our processes.
            defaults: variables of the workload that the user's own replace.
            command_checks: makes health checks of commands; not needed for a dry run.

        """
        replaced = list_replaced_variables(resolved)
        self._inherited = {name: text for name, text in os.environ.items() if text and name not in replaced}
        self._resolved = resolved
        self._settings = resolved.settings
        self._rank = rank
        self._ifname, self._ip = interface
        self._marker = marker
        self._command_checks = command_checks
        self._defaults = defaults

    @property
    def ip(self) -> str:
        """Our address."""
        return self._ip

    @working_directory.in_start_directory()
    def prepare_launch(self, gang: Gang) -> Launch:
        """Complete command and environment for this rank of ``gang``.

        Raises:
            ConfigurationError: the user's flags contradict the Unit.

        """
        info = self._make_gang_info(gang)
        env = build_environment(self._list_variables(), info)
        argv = fill_placeholders(self._settings.command, {**env, "MASTER_ENDPOINT": info.master_endpoint})
        completed = self._complete_command(gang, argv, env)
        plan = completed.plan if completed else None
        if self._settings.keeper == AUTO_KEEPER:
            self._derive_keeper(plan)
        asked = self._build_probe(plan, {**env, **(plan.env if plan else {})})
        warnings = (*self._explain_literals(), *explain_pairs(self._settings.command, info))
        notices = (
            *(completed.notices if completed else self._explain_alone(argv)),
            *warnings,
            *self._explain_unknown_health(asked, completed),
            *self._explain_no_warm_up(asked, plan),
        )
        if plan is None:
            known, inflight = self._settings.traffic_port, self._make_inflight(None)
            return Launch(
                argv,
                env,
                {},
                asked,
                inflight,
                traffic_port=known,
                warm_modules=self._settings.warm_modules or (),
                notices=notices,
            )
        return Launch(
            argv=list(plan.argv),
            env={**env, **plan.env},
            origins=plan.origins,
            health_probe=asked,
            inflight=self._make_inflight(plan),
            gauges=self._find_gauges(plan),
            traffic_port=self._settings.traffic_port or plan.traffic_port,
            required_processes=plan.required_processes,
            ignores_sigterm=plan.ignores_sigterm,
            restart_grace=self._choose_restart_grace(plan),
            warm_modules=self._settings.warm_modules or plan.warm_modules,
            phase_lines=plan.phase_lines,
            notices=notices,
            framework=completed.framework if completed else "",
        )

    @working_directory.in_start_directory()
    def prepare_keeper(self, gang: Gang) -> KeeperLaunch:
        """Complete the keeper's command and environment for this rank of ``gang``.

        Raises:
            ConfigurationError: none can be derived, or its readiness makes no sense for this rank.

        """
        from unitagent.agent.keeper_runner import KeeperLaunch  # noqa: PLC0415 (few Units have keepers)

        info = replace(
            self._make_gang_info(gang),
            marker=make_keeper_marker(self._marker),
            keeper=(gang.generation, gang.master_port),
        )
        env = build_environment(self._list_variables(), info)
        values = {**env, "MASTER_ENDPOINT": info.master_endpoint}
        words, ready = self._settings.keeper or (), self._settings.keeper_ready or ""
        files = self._settings.keeper_files or ()
        if words == AUTO_KEEPER:
            completed = self._complete_command(gang, fill_placeholders(self._settings.command, values), env)
            plan = self._derive_keeper(completed.plan if completed else None)
            words, ready, files = plan.keeper, ready or plan.keeper_ready, files or _find_model(plan)
        (filled,) = fill_placeholders([ready], values)
        _check_readiness(ready, filled)
        paths = [*map(working_directory.resolve_user_path, files)]
        return KeeperLaunch(fill_placeholders(words, values), env, filled, paths)

    def _derive_keeper(self, plan: LaunchPlan | None) -> LaunchPlan:
        """Return the plan, if the framework has derived a keeper.

        Raises:
            ConfigurationError: it has derived none.

        """
        from unitagent.frameworks.command import is_shell_text  # noqa: PLC0415 (few derive a keeper)

        if is_shell_text(tuple(self._settings.command)):
            why = "COMMAND is a shell's text, whose variables the keeper would lack"
            remedy = "write the engine's command itself, or the keeper's in UNIT_KEEPER"
            raise ConfigurationError(f"UNIT_KEEPER=auto: {why}; {remedy}")
        if plan is None or not plan.keeper:
            why = "no keeper is known for this command"
            remedy = "use vLLM or SGLang with UNIT_FRAMEWORK=vllm or sglang, or write the keeper's command"
            raise ConfigurationError(f"UNIT_KEEPER=auto: {why}; {remedy}")
        return plan

    def _list_variables(self) -> dict[str, str]:
        return {**self._defaults, **self._resolved.environment, **self._inherited}

    def prepare_dry_run(self, master: str | None = None) -> Launch:
        """Return what would run in a Unit whose other ranks are not known yet.

        Raises:
            ConfigurationError: as :meth:`prepare_launch`.

        """
        return self.prepare_launch(self._make_stand_in(master, 29500))

    def prepare_dry_keeper(self, master: str | None = None) -> KeeperLaunch | None:
        """Return the keeper of such a Unit; None if it has none."""
        if self._settings.keeper is None:
            return None
        return self.prepare_keeper(self._make_stand_in(master, _KEEPER_PORT))

    def _make_stand_in(self, master: str | None, port: int) -> Gang:
        """Make a gang of ranks that are not known yet."""
        size, keepers = self._settings.size, None
        if self._settings.keeper is not None:
            keepers = f"1:{_KEEPER_PORT}:"
        ips = (self._ip if self._rank == 0 else master or self._ip, *(self._ip,) * (size - 1))
        return Gang(generation=1, incarnations=("",) * size, ips=ips, master_port=port, keepers=keepers)

    def _choose_restart_grace(self, plan: LaunchPlan) -> float | None:
        """Return the framework's grace after a failure, unless the user has set one."""
        is_default = self._resolved.sources["UNIT_RESTART_GRACE_SECONDS"] == "default"
        return plan.restart_grace if is_default else None

    def _explain_literals(self) -> tuple[str, ...]:
        """Return warnings about variables that only a shell would expand."""
        warnings = explain_variables(self._settings.command)
        if not warnings:
            return ()
        from unitagent.frameworks.command import is_shell_text  # noqa: PLC0415 (few commands have them)

        return () if is_shell_text(tuple(self._settings.command)) else warnings

    def _complete_command(
        self, gang: Gang, argv: list[str], env: Mapping[str, str]
    ) -> CompletedCommand | None:
        """Return the command as its framework completes it; None if no framework is wanted."""
        if self._settings.framework == "none":
            return None
        from unitagent.frameworks.completer import complete_command  # noqa: PLC0415 (most run plain commands)

        def place(framework: str, command: PlainCommand) -> RankContext:
            return self._make_context(gang, framework, command)

        return complete_command(self._settings.framework, tuple(argv), env, str(Path.cwd()), place)

    def _explain_alone(self, argv: list[str]) -> tuple[str, ...]:
        """Return warnings about an engine that is not completed, unless the user asked for that."""
        if self._resolved.sources["UNIT_FRAMEWORK"] != "default" or self._settings.size == 1:
            return ()
        from unitagent.engine_commands import explain_missing_ranks  # noqa: PLC0415 (not every agent asks)

        return explain_missing_ranks(argv)

    def _make_context(self, gang: Gang, framework: str, command: PlainCommand) -> RankContext:
        from unitagent.discovery.installed_version import find_installed_version  # noqa: PLC0415
        from unitagent.frameworks.interface import RankContext  # noqa: PLC0415

        return RankContext(
            rank=self._rank,
            size=self._settings.size,
            unit=self._settings.unit,
            generation=gang.generation,
            rank_ip=self._ip,
            master_address=gang.master_address,
            master_port=gang.master_port,
            rank_ips=gang.ips,
            ifname=self._ifname,
            folder=command.folder,
            version=find_installed_version(framework, command.argv, command.env.get("PATH")),
            shutdown_timeout=_compute_shutdown_timeout(self._settings),
            traffic_port=self._settings.traffic_port,
            keeper_port=self._choose_keeper_port(gang),
        )

    def _choose_keeper_port(self, gang: Gang) -> int | None:
        if self._settings.keeper != AUTO_KEEPER:
            return None
        running = _find_keeper(gang)
        return gang.master_port if gang.starts_keepers or running is None else running[1]

    def _explain_unknown_health(
        self, asked: HealthProbePlan | None, completed: CompletedCommand | None
    ) -> tuple[str, ...]:
        """Return a warning if the health of the workload cannot be known."""
        if asked is not None or self._rank or self._settings.mode != "service":
            return ()
        because = f", because {completed.hidden}" if completed and completed.hidden else ""
        return (_UNKNOWN_HEALTH.format(because),)

    def _explain_no_warm_up(self, asked: HealthProbePlan | None, plan: LaunchPlan | None) -> tuple[str, ...]:
        """Return a warning if a warm-up request is wanted and none will be sent."""
        wanted = self._settings.warmup_url
        if self._rank or wanted == "off":
            return ()
        if asked is None:
            why = "rank 0's workload has no health check after which it could be sent; set UNIT_HEALTH_URL"
        elif wanted == "auto" and (plan is None or plan.warm_up is None):
            why = "no request is known for this command; set the URL and UNIT_WARMUP_BODY"
        else:
            return ()
        return (f"UNIT_WARMUP_URL={redaction.redact_url(wanted)}: {why}",)

    def _make_gang_info(self, gang: Gang) -> GangInfo:
        return GangInfo(
            rank=self._rank,
            size=self._settings.size,
            unit=self._settings.unit,
            generation=gang.generation,
            rank_ip=self._ip,
            comm_ifname=self._ifname,
            master_address=gang.master_address,
            master_port=gang.master_port,
            rank_ips=gang.ips,
            marker=self._marker,
            keeper=_find_keeper(gang),
        )

    def _build_probe(self, plan: LaunchPlan | None, env: Mapping[str, str]) -> HealthProbePlan | None:
        return (
            HealthProbeBuilder(self._resolved, plan, env, self._command_checks, self._ip).build_probe()
            if self._rank == 0
            else None
        )

    def _find_gauges(self, plan: LaunchPlan) -> EngineGauges | None:
        if self._rank != 0 or not plan.metrics_url or not plan.progress_metric:
            return None
        return EngineGauges(plan.metrics_url, plan.running_metrics, plan.progress_metric)

    def _make_inflight(self, plan: LaunchPlan | None) -> InFlightRequests | None:
        port = self._settings.traffic_port or (plan.traffic_port if plan else None)
        if port is None:
            return None
        if plan is not None and plan.metrics_url and plan.running_metrics:
            return InFlightRequests(port, plan.metrics_url, plan.running_metrics)
        return InFlightRequests(port)
