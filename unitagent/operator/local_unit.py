"""``unitagent local``: a whole Unit on this machine, one agent on each of 127.0.0.1, 127.0.0.2 and so on.

Each agent is a separate process with the same options; rank 0 runs the embedded store. Ctrl-C (or SIGTERM) is
passed on to all agents, and so is a second one.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unitagent import entry
from unitagent.errors import ConfigurationError
from unitagent.setting_parsers import make_integer_parser, parse_listen_address
from unitagent.settings.variables import VARIABLES
from unitagent.system.safe_output import print_warning

_LARGEST = 250  # instances; the last octet of 127.0.0.x
_OURS = ("UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "RANK_ID", "MASTER_ADDRESS", "RANK_IP", "COMM_IFNAME")


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """The Unit to run.

    Attributes:
        port: of every probe address; the store listens one port above it, or at UNIT_STORE_PORT.
        options: variable -> text, for every agent.

    """

    size: int
    port: int
    options: Mapping[str, str]
    command: Sequence[str]


def plan_unit(size: str, options: Mapping[str, str], command: Sequence[str]) -> UnitPlan:
    """Parse the options of ``unitagent local``.

    Raises:
        ConfigurationError: an option is invalid for a Unit on one machine.

    """
    instances = _parse_size(size)
    if refused := [VARIABLES[name].flag or name for name in options if name in _OURS]:
        why = "must not be set, because `unitagent local` sets it for each instance"
        raise ConfigurationError(f"{', '.join(refused)}: {why}")
    if not command:
        raise ConfigurationError("COMMAND missing: run `unitagent local --size N -- COMMAND [ARG...]`")
    shared = {name: text for name, text in options.items() if name != "UNIT_HTTP_ADDRESS"}
    return UnitPlan(instances, _parse_port(options.get("UNIT_HTTP_ADDRESS")), shared, command)


def _parse_size(size: str) -> int:
    accepted = f"must be an integer from 1 to {_LARGEST}"
    if not size:
        raise ConfigurationError(f"--size (UNIT_SIZE) missing: {accepted}")
    try:
        return make_integer_parser(1, _LARGEST)(size)
    except ValueError as error:
        raise ConfigurationError(f"--size (UNIT_SIZE)={size!r}: {accepted}") from error


def _parse_port(address: str | None) -> int:
    text = address or os.environ.get("UNIT_HTTP_ADDRESS") or "127.0.0.1:9470"
    try:
        _, port = parse_listen_address(text)
    except ValueError as error:
        raise ConfigurationError(f"UNIT_HTTP_ADDRESS={text!r}: must be host:port") from error
    if not port:
        raise ConfigurationError(
            "UNIT_HTTP_ADDRESS='off': must be host:port, because `unitagent local` needs probe addresses"
        )
    return port


def run_unit(unit: UnitPlan) -> int:
    """Run the Unit until all its agents have exited; returns the first nonzero exit code, else 0."""
    if (unit.options.get("UNIT_DASHBOARD") or os.environ.get("UNIT_DASHBOARD") or "").lower() != "off":
        print_warning(f"open this Unit in a browser: http://127.0.0.1:{unit.port}/")
    agents = [_start_agent(unit, rank) for rank in range(unit.size)]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _stop_agents(agents))
    codes = [agent.wait() for agent in agents]
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def _start_agent(unit: UnitPlan, rank: int) -> subprocess.Popen[bytes]:
    argv = entry.build_agent_command("run", "--", *unit.command)
    # A separate process group: Ctrl-C then reaches each agent once, from us.
    return subprocess.Popen(
        argv, env=_build_environment(unit, rank), process_group=0, stdin=subprocess.DEVNULL
    )


def _build_environment(unit: UnitPlan, rank: int) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in _OURS}
    address = f"127.0.0.{rank + 1}"
    return {
        **kept,
        **unit.options,
        "RANK_ID": str(rank),
        "UNIT_SIZE": str(unit.size),
        "RANK_IP": address,
        "COMM_IFNAME": "lo",
        "MASTER_ADDRESS": "127.0.0.1",
        "UNIT_HTTP_ADDRESS": f"{address}:{unit.port}",
    }


def _stop_agents(agents: Sequence[subprocess.Popen[bytes]]) -> None:
    for agent in agents:
        if agent.returncode is None:
            agent.terminate()
