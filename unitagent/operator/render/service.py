"""A service in the words that all engines share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GRACE_MARGIN = 5  # seconds from the agent's last SIGKILL to the engine's
PROBE_PORT = 9470
BUNDLE = "/opt/unitagent"  # where the agent's bundle stands, in its image and where it is carried to


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of an NFS server.

    Attributes:
        target: where an instance finds it.
        server: its name or address.
        source: the directory's path there.

    """

    target: str
    server: str
    source: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is to run.

    Attributes:
        name: a DNS label, the base of every name in a manifest.
        carrier: the image that has the agent's bundle; None when the service's own image has the agent.
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
        disk: of each instance, as Kubernetes writes quantities.
        mounts: storage that an instance finds.
        shm: size of ``/dev/shm``, in GiB.
        surge: Units more, while an update lasts, than there should be: a number or a percentage.
        unavailable: Units fewer.

    """

    name: str
    image: str
    carrier: str | None = None
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
    disk: str | None = None
    mounts: tuple[Mount, ...] = ()
    shm: int | None = None
    surge: int | str | None = None
    unavailable: int | str | None = None

    @property
    def program(self) -> str:
        """The agent, in an instance."""
        return f"{BUNDLE}/unitagent" if self.carrier else "unitagent"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of an instance, less its place."""
        return {**self.environment, **self.settings}


def format_pairs(variables: Mapping[str, str]) -> list[str]:
    """Environment as Compose and Swarm take it; a list, for any text can be a variable's name."""
    return [f"{name}={text}" for name, text in variables.items()]


def build_nfs_volumes(service: Service) -> dict[str, Any]:
    """Storage as Compose and Swarm make it."""
    found = {}
    for index, mount in enumerate(service.mounts):
        mode = ",ro" if mount.read_only else ""
        options = {"type": "nfs", "o": f"addr={mount.server}{mode}", "device": f":{mount.source}"}
        found[f"storage-{index}"] = {"driver": "local", "driver_opts": options}
    return found


def list_mounts(service: Service) -> list[dict[str, Any]]:
    """Storage as an instance of Compose and Swarm finds it."""
    return [
        {"type": "volume", "source": f"storage-{index}", "target": mount.target, "read_only": mount.read_only}
        for index, mount in enumerate(service.mounts)
    ]


def escape_dollars(content: object) -> object:
    """Double each dollar in a manifest, so that the engine puts in nothing of its own."""
    if isinstance(content, str):
        return content.replace("$", "$$")
    if isinstance(content, dict):
        return {key: escape_dollars(value) for key, value in content.items()}
    if isinstance(content, list):
        return [escape_dollars(item) for item in content]
    return content


def build_limits(service: Service) -> dict[str, str]:
    """Processor and memory as Compose and Swarm limit them."""
    found = {}
    if service.cpu:
        found["cpus"] = f"{service.cpu:g}"
    if service.memory:
        found["memory"] = f"{service.memory}m"
    return found
