"""The settings of one instance: every variable as one frozen record, and where each value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.settings.variables import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitagent.discovery.service_file import ServiceCheck

__all__ = ["Resolved", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The settings and where they come from.

    Attributes:
        sources: variable -> the source of its value, for every variable of the table.
        texts: variable -> its value as text, empty if unset; secrets and passwords are masked.
        warnings: sentences for the log; none of them stops an agent.
        platform: name of the detected platform; None if no platform was detected.
        environment: what the service file adds to the workload's environment where nothing else sets it.
        checks: the service file's checks, by their keys in it.
        sigterm: its ``rpc.enable_sigterm``; None if it is absent.

    """

    settings: Settings
    sources: Mapping[str, str]
    texts: Mapping[str, str]
    warnings: tuple[str, ...]
    platform: str | None
    environment: Mapping[str, str]
    checks: Mapping[str, ServiceCheck]
    sigterm: bool | None = None
