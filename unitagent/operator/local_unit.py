"""``unitagent local``: a whole Unit on this machine, one agent on each of 127.0.0.1, 127.0.0.2 and so on.

Each agent is a separate process with the same options; rank 0 runs the embedded store. Ctrl-C (or SIGTERM) is
passed on to all agents, and so is a second one. Options, command and ports are checked before any agent
starts, since every agent would report the same error. Where there are several, each line of their output has
its rank.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from unitagent import entry
from unitagent.errors import ConfigurationError
from unitagent.operator.rank_output import RankOutput
from unitagent.setting_parsers import make_integer_parser, parse_listen_address
from unitagent.settings.variables import VARIABLES
from unitagent.system.addresses import bind_tcp
from unitagent.system.output_streams import STDERR, STDOUT
from unitagent.system.safe_output import print_warning

_LARGEST = 250  # instances; the last octet of 127.0.0.x
_OURS = ("UNIT_REDIS_URL", "UNIT_REDIS_URL_FILE", "RANK_ID", "MASTER_ADDRESS", "RANK_IP", "COMM_IFNAME")
_FIRST_ADDRESS = "127.0.0.1"
_DEFAULT_PORT = 9470
_PORT_STEP, _PORT_TRIES = 10, 50  # further ports to try where the default one is in use
_LAST_LINES = 2.0  # seconds for the last output, once all agents have exited


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """The Unit to run.

    Attributes:
        port: of every probe address; the store listens one port above it, or at UNIT_STORE_PORT.
        port_is_chosen: the user chose the port, so that no other one will do.
        options: variable -> text, for every agent.

    """

    size: int
    port: int
    port_is_chosen: bool
    options: Mapping[str, str]
    command: Sequence[str]

    def make_environment(self, rank: int) -> dict[str, str]:
        """Make the environment of an agent, without the options."""
        address = f"127.0.0.{rank + 1}"
        return {
            **{name: text for name, text in os.environ.items() if name not in _OURS},
            "RANK_ID": str(rank),
            "UNIT_SIZE": str(self.size),
            "RANK_IP": address,
            "COMM_IFNAME": "lo",
            "MASTER_ADDRESS": _FIRST_ADDRESS,
            "UNIT_HTTP_ADDRESS": f"{address}:{self.port}",
        }


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
    address = options.get("UNIT_HTTP_ADDRESS") or os.environ.get("UNIT_HTTP_ADDRESS") or ""
    port = _parse_port(address) if address else _DEFAULT_PORT
    return UnitPlan(instances, port, bool(address), shared, command)


def _parse_size(size: str) -> int:
    accepted = f"must be an integer from 1 to {_LARGEST}"
    if not size:
        raise ConfigurationError(f"--size (UNIT_SIZE) missing: {accepted}")
    try:
        return make_integer_parser(1, _LARGEST)(size)
    except ValueError as error:
        raise ConfigurationError(f"--size (UNIT_SIZE)={size!r}: {accepted}") from error


def _parse_port(address: str) -> int:
    try:
        _, port = parse_listen_address(address)
    except ValueError as error:
        raise ConfigurationError(f"UNIT_HTTP_ADDRESS={address!r}: must be host:port") from error
    if not port:
        raise ConfigurationError(
            "UNIT_HTTP_ADDRESS='off': must be host:port, because `unitagent local` needs probe addresses"
        )
    return port


def choose_port(unit: UnitPlan, store_port: int | None) -> UnitPlan:
    """Return the Unit with a port that is free on all its addresses; the user may have chosen the store's.

    Raises:
        ConfigurationError: a port that the user chose is in use.

    """
    tries = 1 if unit.port_is_chosen else _PORT_TRIES
    for port in range(unit.port, unit.port + tries * _PORT_STEP, _PORT_STEP):
        if not any(_is_in_use(*address) for address in _list_addresses(unit.size, port, store_port)):
            if port != unit.port:
                print_warning(
                    f"port {unit.port} or {unit.port + 1} is in use, so this Unit has port {port}: other "
                    f"commands find it with --http-address {_FIRST_ADDRESS}:{port}"
                )
            return replace(unit, port=port)
    host, port = next(
        address for address in _list_addresses(unit.size, unit.port, store_port) if _is_in_use(*address)
    )
    variable = "UNIT_STORE_PORT" if port == store_port else "UNIT_HTTP_ADDRESS"
    raise ConfigurationError(
        f"{variable}: port {port} of {host} is in use; stop the process that holds it (find it with "
        f"ss -ltnp), or set {variable} to another port"
    )


def _list_addresses(size: int, port: int, store_port: int | None) -> Iterator[tuple[str, int]]:
    """Yield where the agents and the embedded store of rank 0 listen."""
    yield from ((f"127.0.0.{rank + 1}", port) for rank in range(size))
    yield _FIRST_ADDRESS, store_port or port + 1


def _is_in_use(host: str, port: int) -> bool:
    try:
        bind_tcp(host, port).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def run_unit(unit: UnitPlan) -> int:
    """Run the Unit until all its agents have exited; returns the first nonzero exit code, else 0."""
    if (unit.options.get("UNIT_DASHBOARD") or os.environ.get("UNIT_DASHBOARD") or "").lower() != "off":
        print_warning(f"open this Unit in a browser: http://{_FIRST_ADDRESS}:{unit.port}/")
    agents: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        _stop_agents(agents)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: its terminal was closed
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    for rank in range(unit.size):
        agents.append(_start_agent(unit, rank))
        if asked:  # meanwhile, so that the signal may have missed this agent
            _stop_agents(agents)
            break
    output = _show_output(agents) if unit.size > 1 else None
    codes = [agent.wait() for agent in agents]
    if output is not None:
        output.close(_LAST_LINES)
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def _start_agent(unit: UnitPlan, rank: int) -> subprocess.Popen[bytes]:
    argv = entry.build_agent_command("run", "--", *unit.command)
    environ = {**unit.make_environment(rank), **unit.options}
    piped = subprocess.PIPE if unit.size > 1 else None
    if sys.stderr.isatty() and not environ.get("UNIT_LOG_FORMAT"):
        environ["UNIT_LOG_FORMAT"] = "text"  # an agent sees a pipe, but a person reads it
    # A separate process group: Ctrl-C then reaches each agent once, from us.
    return subprocess.Popen(
        argv, env=environ, process_group=0, stdin=subprocess.DEVNULL, stdout=piped, stderr=piped
    )


def _show_output(agents: Sequence[subprocess.Popen[bytes]]) -> RankOutput:
    """Begin to show what the agents and their workloads write, with their ranks."""
    return RankOutput(
        {
            STDOUT: [agent.stdout for agent in agents if agent.stdout],
            STDERR: [agent.stderr for agent in agents if agent.stderr],
        }
    )


def _stop_agents(agents: Sequence[subprocess.Popen[bytes]]) -> None:
    for agent in agents:
        if agent.returncode is None:
            agent.terminate()
