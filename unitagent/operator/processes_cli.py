"""``unitagent processes``: what each process of the workload in this container uses."""

from __future__ import annotations

import argparse
import json
from typing import Any

from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.operator import agent_client
from unitagent.operator.probe_client import resolve_wildcard
from unitagent.settings import Settings
from unitagent.system.host_port import join_host_port
from unitagent.system.safe_output import escape_json_value, print_text

_MIB = 1 << 20
_TITLES = f"{'cpu':>10} {'memory':>11} {'threads':>7} {'files':>6} {'age':>10}"
_HEAD = f"{'pid':>8} {'parent':>8}  {'name':<15} {_TITLES}"


def show_processes(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the processes that the agent in this container supervises.

    Raises:
        ConfigurationError: there is no probe address.
        UnitAgentError: no agent answers there, or its answer has no proof of the Unit's secret.

    """
    port = settings.http_port
    if not port:
        raise ConfigurationError(
            "UNIT_HTTP_ADDRESS='off': the agent has no probe address; use --http-address HOST:PORT"
        )
    processes = agent_client.fetch_processes(settings.unit, settings.http_host, port, settings.keys)
    if processes is None:
        there = join_host_port(resolve_wildcard(settings.http_host), port)
        raise UnitAgentError(
            f"no agent answers at {there}: run this command in a container of the Unit, or name its agent "
            "(--http-address HOST:PORT)"
        )
    print_text(json.dumps(processes, indent=2) if namespace.json else format_processes(processes))
    return 0


def format_processes(processes: list[dict[str, Any]]) -> str:
    """Format a table with one line per process."""
    if not processes:
        return "no process of the workload is running"
    return "\n".join([_HEAD, *(_format_row(escape_json_value(one)) for one in processes)])


def _format_row(one: dict[str, Any]) -> str:
    files = "-" if one["open_files"] is None else one["open_files"]
    return (
        f"{one['pid']:>8} {one['parent']:>8}  {one['name']:<15} {one['cpu_seconds']:>8.1f} s "
        f"{one['memory_bytes'] / _MIB:>7.1f} MiB {one['threads']:>7} {files:>6} {one['age_seconds']:>8.0f} s"
    )
