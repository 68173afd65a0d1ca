"""How rank 0's workload is asked whether it is well: by the user's word, else the service file's, else the
framework's.

The invariant: a check of the service file means what it means to EAS, with one difference that only helps.
Nothing is counted against a workload that has not been well yet, so it is asked from the beginning on, and
``initial_delay_seconds`` only makes the time longer that a start may take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.probes.connect import reach
from unitagent.probes.health import HealthProbe, Question, Verdict, check_for
from unitagent.settings import Resolved
from unitagent.values import masked

if TYPE_CHECKING:
    from unitagent.discovery.health_checks import Check as Stated
    from unitagent.frameworks.interface import LaunchPlan
    from unitagent.probes.health import Check

OnVerdict = Callable[[Verdict], None]
Commands = Callable[[Sequence[str], Mapping[str, str]], "Check"]
"""Makes a check of a command and its environment."""


def _answerless(_argv: Sequence[str], _env: Mapping[str, str]) -> Check:
    async def check(_timeout: float) -> str:
        return "nobody runs this command"

    return check


UNASKED: Commands = _answerless
"""For a start that is only rehearsed."""


def _takes_connections(port: int, hosts: Sequence[str]) -> Check:
    """Whether a port takes connections at one of these addresses at least: who listens chose one of them."""

    async def check(timeout: float) -> str:  # noqa: ASYNC109 (the shape of a check)
        problems = []
        for host in hosts:
            problem = await reach(host, port, within=timeout / len(hosts))
            if not problem:
                return ""
            problems.append(problem)
        return problems[0]

    return check


def _words(url: str) -> str:
    """Say what :func:`check_for` asks, without a password."""
    address = url.removeprefix("tcp://")
    return f"GET {masked(url)}" if address == url else f"a TCP connect to {address}"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a workload is asked.

    Attributes:
        probe: makes the probe.
        words: what it asks, for people.
        origin: who said that.

    """

    probe: Callable[[OnVerdict], HealthProbe]
    words: str
    origin: str


@dataclass(frozen=True, slots=True)
class Asking:
    """What is known about one start, to make a probe of it."""

    found: Resolved
    plan: LaunchPlan | None
    env: Mapping[str, str]
    commands: Commands
    ip: str

    def asked(self) -> Asked | None:
        """What is asked; None where there is nothing to ask."""
        stated = self._stated()
        startup = self._question(stated.get("startup_check"))
        traffic = self._question(stated.get("readiness_check"))
        life = self._life(stated.get("liveness_check") or stated.get("health_check"))
        first = [question for question in (startup, traffic, life) if question]
        if not first:
            return self._door()
        words = dict.fromkeys(f"{question.words} every {question.interval:g} s" for question in first)
        return Asked(
            lambda told: HealthProbe(first, life=life, traffic=traffic, on_verdict=told),
            ", then ".join(words),
            self._origin(by_file=bool(stated)),
        )

    def _door(self) -> Asked | None:
        """Ask a service of which the port is all that is known whether it takes connections there."""
        settings = self.found.settings
        port = settings.traffic_port
        if port is None or settings.mode != "service":
            return None
        question = Question(
            check=_takes_connections(port, ("127.0.0.1", "::1", self.ip)),
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            failures=settings.health_failures,
        )
        return Asked(
            lambda told: HealthProbe([question], traffic=question, on_verdict=told),
            f"a TCP connect to port {port} every {question.interval:g} s, since no health URL is known",
            f"UNIT_TRAFFIC_PORT ({self.found.sources['UNIT_TRAFFIC_PORT']})",
        )

    def _origin(self, *, by_file: bool) -> str:
        settings = self.found.settings
        if by_file:
            return f"service file {settings.config}"
        if settings.health_url:
            return f"UNIT_HEALTH_URL ({self.found.sources['UNIT_HEALTH_URL']})"
        return f"UNIT_FRAMEWORK={settings.framework}"

    def _stated(self) -> Mapping[str, Stated]:
        """The service file's checks, unless a flag or the environment says what is to be asked instead."""
        source = self.found.sources.get("UNIT_HEALTH_URL", "")
        overruled = self.found.settings.health_url is not None and not source.startswith("service file")
        return {} if overruled else self.found.checks

    def _life(self, stated: Stated | None) -> Question | None:
        settings = self.found.settings
        url = settings.health_url or (self.plan.health if self.plan else None)
        if stated is None and not url:
            return None
        check, words = self._check(stated) if stated else (check_for(url or ""), _words(url or ""))
        return Question(
            check=check,
            words=words,
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            failures=settings.health_failures,
            successes=(stated.successes if stated else None) or 1,
            eager=not (stated and stated.command),
        )

    def _question(self, stated: Stated | None) -> Question | None:
        """A question with the timings of its check, and the settings' where it states none."""
        if stated is None:
            return None
        settings = self.found.settings
        check, words = self._check(stated)
        return Question(
            check=check,
            words=words,
            interval=stated.period or settings.health_interval,
            timeout=stated.timeout or settings.health_timeout,
            failures=stated.failures or settings.health_failures,
            successes=stated.successes or 1,
            eager=not stated.command,
        )

    def _check(self, stated: Stated) -> tuple[Check, str]:
        if stated.command:
            return self.commands(stated.command, self.env), f"the command of {stated.path}"
        url = stated.url or f"tcp://127.0.0.1:{stated.port}"
        return check_for(url), _words(url)
