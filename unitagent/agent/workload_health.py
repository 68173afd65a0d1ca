"""How the health of rank 0's workload is checked: as the user says, else the service file, else the
framework.

The invariant: a check of the service file means the same as in EAS, with one difference that only helps.
Failures do not count before the workload has been healthy once, so checks begin at once, and
``initial_delay_seconds`` only extends the time that a start may take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from unitagent.probes.health import (
    FailedProbe,
    HealthProbe,
    HealthVerdict,
    ProbeSpec,
    StallProbe,
    parse_health_url,
)
from unitagent.setting_parsers import redact_url
from unitagent.settings import Resolved
from unitagent.system.addresses import explain_unreachable

if TYPE_CHECKING:
    from unitagent.agent.launch import Launch
    from unitagent.discovery.service_file import ServiceCheck as Stated
    from unitagent.frameworks.interface import LaunchPlan
    from unitagent.probes.health import HealthCheck
    from unitagent.probes.warm_up import WarmUp

OnVerdict = Callable[[HealthVerdict], None]
OnProbe = Callable[[FailedProbe], None]
CommandChecks = Callable[[Sequence[str], Mapping[str, str]], "HealthCheck"]
"""Makes a check from a command and its environment."""


def _make_unused_check(_argv: Sequence[str], _env: Mapping[str, str]) -> HealthCheck:
    async def check(_timeout: float) -> str:
        return "this command is not run in a dry run"

    return check


NO_COMMAND_CHECKS: CommandChecks = _make_unused_check
"""For a dry run."""


def _make_port_check(port: int, hosts: Sequence[str]) -> HealthCheck:
    """Check whether a port accepts connections on any of these addresses: a server may listen on one."""

    async def check(timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
        problems = []
        for host in hosts:
            problem = await explain_unreachable(host, port, within=timeout / len(hosts))
            if not problem:
                return ""
            problems.append(problem)
        return problems[0]

    return check


def _describe_url(url: str) -> str:
    """Describe what a check of this URL does, without a password."""
    address = url.removeprefix("tcp://")
    return f"GET {redact_url(url)}" if address == url else f"a TCP connect to {address}"


def _describe_pace(question: ProbeSpec, *, lasts: bool = True) -> str:
    """Describe what is asked, and how often; ``lasts``: also once the workload is healthy."""
    starting, interval = question.starting_interval, question.interval
    if not lasts or starting == interval:
        return f"{question.words} every {starting:g} s"
    return f"{question.words} every {interval:g} s (every {starting:g} s until it is healthy)"


class HealthProbePlan(Struct, frozen=True):
    """How a workload is checked.

    Attributes:
        make_probe: makes the probe.
        description: what it checks, for people.
        origin: the setting that it comes from.
        warms_up: it sends a warm-up request before the workload is healthy.

    """

    make_probe: Callable[[OnVerdict, OnProbe], HealthProbe]
    description: str
    origin: str
    warms_up: bool = False


class HealthProbeBuilder(Struct, frozen=True):
    """What is known about one launch, from which its probe is built."""

    resolved: Resolved
    plan: LaunchPlan | None
    env: Mapping[str, str]
    command_checks: CommandChecks
    ip: str

    def build_probe(self) -> HealthProbePlan | None:
        """Return the probe; None if there is nothing to check."""
        stated = self._select_stated()
        startup = self._make_spec(stated.get("startup_check"))
        traffic = self._make_spec(stated.get("readiness_check"))
        life = self._make_liveness_spec(stated.get("liveness_check") or stated.get("health_check"))
        first = [question for question in (startup, traffic, life) if question]
        if not first:
            return self._build_port_probe()
        words = dict.fromkeys(
            _describe_pace(question, lasts=question in (traffic, life)) for question in first
        )
        warm_up = self._make_warm_up()
        sent = (f"{warm_up.words} once",) if warm_up else ()
        return HealthProbePlan(
            lambda on_verdict, on_probe: HealthProbe(
                first, life=life, traffic=traffic, warm_up=warm_up, on_verdict=on_verdict, on_probe=on_probe
            ),
            ", then ".join((*words, *sent)),
            self._describe_origin(by_file=bool(stated)),
            warms_up=warm_up is not None,
        )

    def _build_port_probe(self) -> HealthProbePlan | None:
        """Check whether the port accepts connections, for a service of which only the port is known."""
        settings = self.resolved.settings
        port = settings.traffic_port
        if port is None or settings.mode != "service":
            return None
        question = ProbeSpec(
            check=_make_port_check(port, ("127.0.0.1", "::1", self.ip)),
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            failures=settings.health_failures,
            words=f"a TCP connect to port {port}",
            target=f"port {port}",
        )
        warm_up = self._make_warm_up()
        then = f", then {warm_up.words} once" if warm_up else ""
        return HealthProbePlan(
            lambda on_verdict, on_probe: HealthProbe(
                [question], traffic=question, warm_up=warm_up, on_verdict=on_verdict, on_probe=on_probe
            ),
            f"{_describe_pace(question)}, since no health URL is known{then}",
            f"UNIT_TRAFFIC_PORT ({self.resolved.sources['UNIT_TRAFFIC_PORT']})",
            warms_up=warm_up is not None,
        )

    def _make_warm_up(self) -> WarmUp | None:
        settings = self.resolved.settings
        known = self.plan.warm_up if self.plan else None
        if settings.warmup_url == "off" or (settings.warmup_url == "auto" and known is None):
            return None
        from unitagent.probes.warm_up import WarmUp  # noqa: PLC0415 (few ask for it)

        url, body = known if settings.warmup_url == "auto" and known else (settings.warmup_url, None)
        return WarmUp(
            url=url,
            body=settings.warmup_body or body,
            seconds=settings.warmup_seconds,
            startup=settings.startup,
        )

    def _describe_origin(self, *, by_file: bool) -> str:
        settings = self.resolved.settings
        if by_file:
            return f"service file {settings.config}"
        if settings.health_url:
            return f"UNIT_HEALTH_URL ({self.resolved.sources['UNIT_HEALTH_URL']})"
        return f"UNIT_FRAMEWORK={settings.framework}"

    def _select_stated(self) -> Mapping[str, Stated]:
        """Return the checks of the service file, unless a flag or the environment overrides them."""
        source = self.resolved.sources.get("UNIT_HEALTH_URL", "")
        overruled = self.resolved.settings.health_url is not None and not source.startswith("service file")
        return {} if overruled else self.resolved.checks

    def _make_liveness_spec(self, stated: Stated | None) -> ProbeSpec | None:
        settings = self.resolved.settings
        url = settings.health_url or (self.plan.health if self.plan else None)
        if stated is None and not url:
            return None
        check, words = (
            self._make_check(stated) if stated else (parse_health_url(url or ""), _describe_url(url or ""))
        )
        return ProbeSpec(
            check=check,
            words=words,
            target=words.removeprefix("GET "),
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            failures=settings.health_failures,
            successes=(stated.successes if stated else None) or 1,
            eager=not (stated and stated.command),
        )

    def _make_spec(self, stated: Stated | None) -> ProbeSpec | None:
        """Make a spec with the timings of its check, or of the settings where it has none."""
        if stated is None:
            return None
        settings = self.resolved.settings
        check, words = self._make_check(stated)
        return ProbeSpec(
            check=check,
            words=words,
            target=words.removeprefix("GET "),
            interval=stated.period or settings.health_interval,
            timeout=stated.timeout or settings.health_timeout,
            failures=stated.failures or settings.health_failures,
            successes=stated.successes or 1,
            eager=not stated.command,
        )

    def _make_check(self, stated: Stated) -> tuple[HealthCheck, str]:
        if stated.command:
            return self.command_checks(stated.command, self.env), f"the command of {stated.path}"
        url = stated.url or f"tcp://127.0.0.1:{stated.port}"
        return parse_health_url(url), _describe_url(url)


class WorkloadMonitor:
    """Probes the health and the progress of one workload at a time, from its start to its stop."""

    def __init__(
        self, on_verdict: OnVerdict, on_probe: OnProbe, on_stall: Callable[[str], None], stall: float
    ) -> None:
        """Prepare; ``stall``: seconds without progress that count as a stall, 0 for never."""
        self._on_verdict = on_verdict
        self._on_probe = on_probe
        self._on_stall = on_stall
        self._stall = stall
        self._probes: list[HealthProbe | StallProbe] = []

    def start_probes(self, launch: Launch, *, health: bool) -> None:
        """Start probing this workload; its health only if ``health``."""
        plan = launch.health_probe if health else None
        stall = None
        if self._stall and launch.gauges is not None:
            stall = StallProbe(launch.gauges, self._stall, self._on_stall)
        if plan is not None and plan.warms_up and stall is not None:
            self._probes.append(plan.make_probe(partial(self._await_warm_up, stall), self._on_probe))
        else:
            self._probes += [plan.make_probe(self._on_verdict, self._on_probe)] if plan is not None else []
            self._probes += [stall] if stall is not None else []
        for probe in self._probes:
            probe.start()

    def _await_warm_up(self, stall: StallProbe, verdict: HealthVerdict) -> None:
        """Watch the progress once the workload is healthy: compiling for a warm-up is no stall."""
        if verdict.healthy and stall not in self._probes:
            self._probes.append(stall)
            stall.start()
        self._on_verdict(verdict)

    def stop_probes(self) -> None:
        """Stop all probes."""
        for probe in self._probes:
            probe.stop()
        self._probes.clear()
