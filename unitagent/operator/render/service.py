"""A service in the words that all engines share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GRACE_MARGIN = 5  # seconds from the agent's last SIGKILL to the engine's
PROBE_PORT = 9470


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is to run.

    Attributes:
        name: a DNS label, the base of every name in a manifest.
        units: how many Units.
        size: instances in each.
        command: the workload's argv.
        settings: variables of the agent, less those that tell an instance's place.
        environment: variables of the workload.
        port: that users reach, at rank 0.
        grace: whole seconds that the engine gives a container to stop.
        gpu: cards for each instance; 0 for none.
        cpu: processors for each instance.
        memory: of each instance, in MiB.
        shm: size of ``/dev/shm``, in GiB.
        surge: Units more, while an update lasts, than there should be: a number or a percentage.
        unavailable: Units fewer.

    """

    name: str
    image: str
    units: int
    size: int
    command: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    grace: int = 30
    gpu: int = 0
    cpu: float | None = None
    memory: int | None = None
    shm: int | None = None
    surge: int | str | None = None
    unavailable: int | str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment of an instance, less its place."""
        return {**self.environment, **self.settings}


def pairs(variables: Mapping[str, str]) -> list[str]:
    """Environment as Compose and Swarm take it; a list, for any text can be a variable's name."""
    return [f"{name}={text}" for name, text in variables.items()]


def doubled(content: object) -> object:
    """Double each dollar in a manifest, so that the engine puts in nothing of its own."""
    if isinstance(content, str):
        return content.replace("$", "$$")
    if isinstance(content, dict):
        return {key: doubled(value) for key, value in content.items()}
    if isinstance(content, list):
        return [doubled(item) for item in content]
    return content


def limits(service: Service) -> dict[str, str]:
    """Processor and memory as Compose and Swarm limit them."""
    found = {}
    if service.cpu:
        found["cpus"] = f"{service.cpu:g}"
    if service.memory:
        found["memory"] = f"{service.memory}m"
    return found
