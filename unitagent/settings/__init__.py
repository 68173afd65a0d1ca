"""What this instance was told to be: every variable of the README as one frozen record.

The invariant: settings that ``resolution.resolve`` made are consistent; nobody has to check them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from unitagent.core.timing import Timing
from unitagent.system.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitagent.core.model import Mode, Restart
    from unitagent.discovery.service_file import ServiceCheck

LogFormat = Literal["text", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One instance's settings; durations are in seconds, and 0 means "off" or "for ever" as the README says.

    Attributes:
        size: instances in the Unit; 0 when resolved without an identity, for an operator's command.
        rank: this instance's rank; None claims the lowest free one in the store.
        redis_url: None for the embedded store at rank 0.
        secrets: go to nobody; others are told only what is derived from them. Several while one changes.
        insecure: an embedded store may listen off loopback without a secret.
        store_port: of the embedded store; None for one above rank 0's probe port.
        http_port: 0 when the probe address is ``off``.
        log_format: None for text on a terminal and JSON elsewhere.
        command: the workload's argv, as given.

    """

    unit: str
    size: int
    rank: int | None
    ifname: str | None
    rank_ip: str | None
    master_address: str | None
    config: str | None
    redis_url: str | None = field(repr=False)
    redis_url_file: str | None
    store_port: int | None
    store_timeout: float
    secrets: tuple[str, ...] | None = field(repr=False)
    secret_file: str | None
    insecure: bool
    service: str | None
    guard: bool
    mode: Mode
    restart: Restart
    max_restarts: int
    restart_window: float
    backoff: tuple[float, ...]
    lease: float
    heartbeat: float
    barrier_timeout: float
    startup: float
    stop_grace: float
    restart_grace: float
    drain: float
    deregister: float
    http_host: str
    http_port: int
    http_hosts: tuple[str, ...] | None
    health_url: str | None
    health_interval: float
    health_timeout: float
    health_failures: int
    stall: float
    traffic_port: int | None
    framework: str
    revision: str
    strict: bool
    rdma: str
    dashboard: str
    log_format: LogFormat | None
    log_level: str
    command: tuple[str, ...] = ()

    @property
    def keys(self) -> Keyring:
        """A new ring with the keys of these secrets, which may change it."""
        return Keyring(*self.secrets or ())

    @property
    def timing(self) -> Timing:
        """All durations of the protocol that follow from lease and heartbeat."""
        return Timing.of(self.lease, self.heartbeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The settings and how they came about.

    Attributes:
        sources: variable -> who gave its value; every variable of the table is there.
        texts: variable -> its value as text fit to show, empty for none; secrets and passwords are masked.
        warnings: sentences for the log; nothing in them stops an agent.
        platform: name of the platform that was recognised, None when none was.
        environment: what the service file adds to the workload's environment where nothing else sets it.
        checks: the service file's checks by their keys there.
        sigterm: its ``rpc.enable_sigterm``; None when it does not say.

    """

    settings: Settings
    sources: Mapping[str, str]
    texts: Mapping[str, str]
    warnings: tuple[str, ...]
    platform: str | None
    environment: Mapping[str, str]
    checks: Mapping[str, ServiceCheck]
    sigterm: bool | None = None
