"""A service, independent of the engine, and what Compose and Swarm manifests share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GRACE_MARGIN = 5  # seconds from the agent's last SIGKILL to the engine's
PROBE_PORT = 9470
BUNDLE = "/opt/unitagent"  # folder of the agent's bundle, in its image and in an instance


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of an NFS server.

    Attributes:
        target: mount point in an instance.
        server: its name or address.
        source: the directory's path there.

    """

    target: str
    server: str
    source: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What to run.

    Attributes:
        name: a DNS label, the base of every name in a manifest.
        carrier: the image with the agent's bundle; None if the service's own image has the agent.
        units: number of Units.
        size: instances in each.
        command: the workload's argv.
        settings: variables of the agent, without an instance's placement.
        environment: variables of the workload.
        port: that users reach, at rank 0.
        grace: whole seconds from the engine's SIGTERM to its SIGKILL.
        gpu: GPUs for each instance; 0 for none.
        cpu: processors for each instance.
        memory: of each instance, in MiB.
        disk: of each instance, as Kubernetes writes quantities.
        mounts: storage of an instance.
        shm: size of ``/dev/shm``, in GiB.
        surge: additional Units during an update: a number or a percentage.
        unavailable: missing Units during an update: a number or a percentage.

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
        """The agent's program in an instance."""
        return f"{BUNDLE}/unitagent" if self.carrier else "unitagent"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of an instance, without its placement."""
        return {**self.environment, **self.settings}


def format_pairs(variables: Mapping[str, str]) -> list[str]:
    """Format the environment for Compose and Swarm; as a list, since any text can be a variable's name."""
    return [f"{name}={text}" for name, text in variables.items()]


def build_nfs_volumes(service: Service) -> dict[str, Any]:
    """Build the NFS volumes for Compose and Swarm."""
    volumes = {}
    for index, mount in enumerate(service.mounts):
        mode = ",ro" if mount.read_only else ""
        options = {"type": "nfs", "o": f"addr={mount.server}{mode}", "device": f":{mount.source}"}
        volumes[f"storage-{index}"] = {"driver": "local", "driver_opts": options}
    return volumes


def list_mounts(service: Service) -> list[dict[str, Any]]:
    """List the mounts of an instance for Compose and Swarm."""
    return [
        {"type": "volume", "source": f"storage-{index}", "target": mount.target, "read_only": mount.read_only}
        for index, mount in enumerate(service.mounts)
    ]


def escape_dollars(content: object) -> object:
    """Double each dollar sign in a manifest, so that the engine substitutes nothing."""
    if isinstance(content, str):
        return content.replace("$", "$$")
    if isinstance(content, dict):
        return {key: escape_dollars(value) for key, value in content.items()}
    if isinstance(content, list):
        return [escape_dollars(item) for item in content]
    return content


def build_limits(service: Service) -> dict[str, str]:
    """Build the limits of processor and memory for Compose and Swarm."""
    limits = {}
    if service.cpu:
        limits["cpus"] = f"{service.cpu:g}"
    if service.memory:
        limits["memory"] = f"{service.memory}m"
    return limits
