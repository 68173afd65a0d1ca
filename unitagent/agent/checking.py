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

if TYPE_CHECKING:
    from unitagent.discovery.health_checks import Check as Stated
    from unitagent.frameworks.adapter import Plan
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


@dataclass(frozen=True, slots=True)
class Asking:
    """What is known about one start, to make a probe of it."""

    found: Resolved
    plan: Plan | None
    env: Mapping[str, str]
    commands: Commands
    ip: str

    def probe(self) -> Callable[[OnVerdict], HealthProbe] | None:
        """What builds the probe; None where there is nothing to ask."""
        stated = self._stated()
        startup = self._question(stated.get("startup_check"))
        traffic = self._question(stated.get("readiness_check"))
        life = self._life(stated.get("liveness_check") or stated.get("health_check"))
        first = [question for question in (startup, traffic, life) if question]
        if not first:
            return self._door()
        return lambda told: HealthProbe(first, life=life, traffic=traffic, on_verdict=told)

    def _door(self) -> Callable[[OnVerdict], HealthProbe] | None:
        """Ask a service of which the port is all that is known whether it takes connections there."""
        settings = self.found.settings
        if settings.traffic_port is None or settings.mode != "service":
            return None
        question = Question(
            check=_takes_connections(settings.traffic_port, ("127.0.0.1", "::1", self.ip)),
            interval=settings.health_interval,
            timeout=settings.health_timeout,
            failures=settings.health_failures,
        )
        return lambda told: HealthProbe([question], traffic=question, on_verdict=told)

    def _stated(self) -> Mapping[str, Stated]:
        """The service file's checks, unless a flag or the environment says what is to be asked instead."""
        source = self.found.sources.get("UNIT_HEALTH_URL", "")
        overruled = self.found.settings.health_url is not None and not source.startswith("service file")
        return {} if overruled else self.found.checks

    def _life(self, stated: Stated | None) -> Question | None:
        settings = self.found.settings
        asked = self._check(stated) if stated else None
        url = settings.health_url or (self.plan.health if self.plan else None)
        check = asked or (check_for(url) if url else None)
        if check is None:
            return None
        return Question(
            check=check,
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
        return Question(
            check=self._check(stated),
            interval=stated.period or settings.health_interval,
            timeout=stated.timeout or settings.health_timeout,
            failures=stated.failures or settings.health_failures,
            successes=stated.successes or 1,
            eager=not stated.command,
        )

    def _check(self, stated: Stated) -> Check:
        if stated.command:
            return self.commands(stated.command, self.env)
        return check_for(stated.url or f"tcp://127.0.0.1:{stated.port}")
