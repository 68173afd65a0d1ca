"""What each command does. Each imports what it needs when it runs, so that health checks start quickly."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.system.safe_output import print_text, print_verbatim, print_warning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitagent.operator.env_cli import Discovered
    from unitagent.settings import Resolved, Settings

DEFAULT_HTTP_ADDRESS = "127.0.0.1:9470"
_RANK_0 = "rank-0"  # stands in for rank 0's address


def _resolve_settings(
    namespace: argparse.Namespace,
    *,
    identity: bool = True,
    flags: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Resolved:
    """Resolve the settings from flags, environment, service file and platform; ``flags`` may replace those of
    the command line.
    """
    import socket  # noqa: PLC0415

    from unitagent.settings.cli_options import collect_flags  # noqa: PLC0415
    from unitagent.settings.resolution import resolve_settings  # noqa: PLC0415

    return resolve_settings(
        collect_flags(namespace) if flags is None else flags,
        environ,
        socket.gethostname(),  # its domain comes from /etc/hosts, since a dead resolver takes seconds
        _read_file,
        command=namespace.command,
        identity=identity,
    )


def _read_file(path: str) -> str:
    from pathlib import Path  # noqa: PLC0415

    return Path(path).read_text(encoding="utf-8")


def _run_on_unit(namespace: argparse.Namespace, run: Callable[[Settings, argparse.Namespace], int]) -> int:
    """Run an operator's command on the Unit that it names, or on that of the agent in this container."""
    from unitagent.errors import StoreError  # noqa: PLC0415
    from unitagent.operator.store_locator import adopt_unit, explain_place  # noqa: PLC0415

    found = _resolve_settings(namespace, identity=False)
    settings = adopt_unit(found.settings) if found.sources["UNIT_ID"] == "default" else found.settings
    try:
        return run(settings, namespace)
    except StoreError as error:
        raise explain_place(settings, error) from error


def run_agent(namespace: argparse.Namespace) -> int:
    """Run one instance of a Unit; an error is also the reason in the termination log."""
    try:
        return _run_agent(namespace)
    except UnitAgentError as error:
        from unitagent.settings.cli_options import collect_flags  # noqa: PLC0415
        from unitagent.system.termination_log import write_reason  # noqa: PLC0415

        path = collect_flags(namespace).get("UNIT_TERMINATION_LOG", os.environ.get("UNIT_TERMINATION_LOG"))
        write_reason(path if path and path.startswith("/") else None, f"exit {error.exit_code}: {error}")
        raise


def _run_agent(namespace: argparse.Namespace) -> int:
    """Run one instance of a Unit.

    Most of a start is imports. A stop signal during that time would be lost on PID 1 and would kill any other
    process, so it stays blocked until the agent handles signals. SIGPIPE and SIGXFSZ are blocked before a
    second thread starts, see :mod:`unitagent.workload.signals`.
    """
    import signal  # noqa: PLC0415

    blocked = {signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}
    mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, blocked))
    from unitagent.system.log import LogContext, configure_logging  # noqa: PLC0415
    from unitagent.system.process_setup import (  # noqa: PLC0415
        defer_garbage_collection,
        erase_variables,
        hide_process,
        limit_malloc_arenas,
    )

    defer_garbage_collection()
    limit_malloc_arenas()
    hide_process()
    resolved = _resolve_settings(namespace)
    erase_variables("UNIT_SECRET", "UNIT_REDIS_URL")
    settings = resolved.settings
    where = LogContext(settings.unit, settings.rank)
    writing = configure_logging(where, settings.log_format, settings.log_level)
    code = UnitAgentError.exit_code
    try:
        import asyncio  # noqa: PLC0415

        from unitagent.agent import startup  # noqa: PLC0415

        code = asyncio.run(startup.run_agent(resolved, where, mask))
    except UnitAgentError as error:
        code = error.exit_code
        raise
    finally:
        if not writing.close():
            os._exit(code)  # nobody reads our log, and writing the rest would block for ever
    return code


def run_local_unit(namespace: argparse.Namespace) -> int:
    """Run a whole Unit on this machine."""
    from unitagent.operator import dry_run  # noqa: PLC0415
    from unitagent.operator import local_unit as here  # noqa: PLC0415
    from unitagent.settings.cli_options import collect_flags  # noqa: PLC0415

    options = dict(collect_flags(namespace))
    size = options.pop("UNIT_SIZE", None) or os.environ.get("UNIT_SIZE", "")
    plan = here.plan_unit(size, options, namespace.command)
    first = _resolve_settings(namespace, flags=plan.options, environ=plan.make_environment(0))
    dry_run.check_launch(first)
    return here.run_unit(here.choose_port(plan, first.settings.store_port))


def probe_agent(namespace: argparse.Namespace) -> int:
    """Ask an agent a probe, and print the answer."""
    from unitagent.operator import probe_client as prober  # noqa: PLC0415
    from unitagent.setting_parsers import parse_listen_address  # noqa: PLC0415

    address = namespace.address or os.environ.get("UNIT_HTTP_ADDRESS") or DEFAULT_HTTP_ADDRESS
    try:
        host, port = parse_listen_address(address)
    except ValueError as error:
        where = "--address" if namespace.address else "UNIT_HTTP_ADDRESS"
        raise ConfigurationError(f"{where}={address!r}: must be host:port or [IPv6 address]:port") from error
    if not port:
        raise ConfigurationError(
            "UNIT_HTTP_ADDRESS='off': the agent has no probe address; use --address HOST:PORT"
        )
    return prober.run_probe(namespace.kind, host, port, namespace.timeout)


def print_environment(namespace: argparse.Namespace) -> int:
    """Print the settings, or what would be run.

    Raises:
        ConfigurationError: a setting is invalid or missing; what is known without the missing ones has been
            printed.

    """
    if namespace.dry_run:
        _print_dry_run(_resolve_for_dry_run(namespace), namespace.format)
        return 0
    try:
        _print_settings(_resolve_settings(namespace), namespace.format)
    except ConfigurationError as error:
        try:
            known = _resolve_settings(namespace, identity=False)
        except ConfigurationError:  # more is wrong than the identity
            raise error from None
        _print_settings(known, namespace.format, error)
        raise
    return 0


def _print_dry_run(resolved: Resolved, form: str) -> None:
    from unitagent.operator.dry_run import format_dry_run, plan_launch  # noqa: PLC0415 (it needs the frameworks)

    _print_warnings(resolved)
    print_verbatim(format_dry_run(plan_launch(resolved), form) + "\n")


def _print_settings(resolved: Resolved, form: str, error: ConfigurationError | None = None) -> None:
    """Print the settings; the ``error`` says which are missing."""
    import asyncio  # noqa: PLC0415

    from unitagent.operator import env_cli  # noqa: PLC0415

    _print_warnings(resolved)
    here = asyncio.run(_discover_address(resolved.settings))
    if resolved.settings.command:
        here = _add_engine(resolved, here)
    missing = env_cli.find_missing(error.problems if error else ())
    print_verbatim(env_cli.format_settings(resolved, form, here, missing) + "\n")


def _print_warnings(resolved: Resolved) -> None:
    for warning in resolved.warnings:
        print_warning(f"warning: {warning}")


def _add_engine(resolved: Resolved, here: Discovered) -> Discovered:
    """Add what COMMAND reveals; an explicit address counts even if it belongs to another machine."""
    from dataclasses import replace  # noqa: PLC0415

    from unitagent.operator.dry_run import find_engine_endpoints  # noqa: PLC0415 (it needs the frameworks)

    interface = (resolved.settings.ifname or here.ifname, resolved.settings.rank_ip or here.ip)
    asked, port = find_engine_endpoints(resolved, interface)
    return replace(here, asked=asked, port=port)


def _resolve_for_dry_run(namespace: argparse.Namespace) -> Resolved:
    """Resolve the settings of a rank that does not start; a stand-in may replace rank 0's address."""
    from unitagent.settings.cli_options import PREFIX  # noqa: PLC0415

    try:
        return _resolve_settings(namespace)
    except ConfigurationError as error:
        if not all(problem.startswith("MASTER_ADDRESS missing") for problem in error.problems):
            raise
    print_warning(f"warning: MASTER_ADDRESS is not set; {_RANK_0} stands in for it")
    setattr(namespace, f"{PREFIX}MASTER_ADDRESS", _RANK_0)
    return _resolve_settings(namespace)


async def _discover_address(settings: Settings) -> Discovered:
    """Find interface and address as ``run`` does, without waiting for them."""
    from unitagent.discovery.network import find_instance_address  # noqa: PLC0415
    from unitagent.operator.env_cli import Discovered  # noqa: PLC0415

    if settings.ifname and settings.rank_ip:  # these may belong to another machine
        return Discovered()
    try:
        address = await find_instance_address(
            settings.ifname, settings.rank_ip, 0, lambda why: print_warning(f"warning: {why}")
        )
    except ConfigurationError as error:
        return Discovered(trouble=str(error))
    return Discovered(address.ifname, address.ip)


def run_doctor(namespace: argparse.Namespace) -> int:
    """Print the preflight checks of this container."""
    from unitagent.operator.doctor import doctor_cli, findings  # noqa: PLC0415

    peers = [doctor_cli.parse_peer(text) for text in namespace.peer]
    results = doctor_cli.examine_container(
        lambda identity: _resolve_settings(namespace, identity=identity), peers
    )
    print_text(findings.as_json(results) if namespace.json else findings.as_text(results))
    return findings.exit_code(results)


def show_status(namespace: argparse.Namespace) -> int:
    """Print the status of the Unit."""
    from unitagent.operator import unit_cli  # noqa: PLC0415

    return _run_on_unit(namespace, unit_cli.show_status)


def show_units(namespace: argparse.Namespace) -> int:
    """Print all Units of the store."""
    from unitagent.operator import list_cli  # noqa: PLC0415

    return _run_on_unit(namespace, list_cli.show_units)


def show_processes(namespace: argparse.Namespace) -> int:
    """Print what each process of the workload uses."""
    from unitagent.operator import processes_cli  # noqa: PLC0415

    return processes_cli.show_processes(_resolve_settings(namespace, identity=False).settings, namespace)


def show_logs(namespace: argparse.Namespace) -> int:
    """Print the recent output of the workload on every rank."""
    from unitagent.operator import logs_cli  # noqa: PLC0415

    return _run_on_unit(namespace, logs_cli.show_logs)


def show_events(namespace: argparse.Namespace) -> int:
    """Print the Unit's history."""
    from unitagent.operator.history import history_cli  # noqa: PLC0415

    return _run_on_unit(namespace, history_cli.show_events)


def show_timeline(namespace: argparse.Namespace) -> int:
    """Draw the Unit's history as a timeline."""
    from unitagent.operator.history import history_cli  # noqa: PLC0415

    return _run_on_unit(namespace, history_cli.show_timeline)


def show_evidence(namespace: argparse.Namespace) -> int:
    """Print what was collected about a failed generation."""
    from unitagent.operator import evidence_cli  # noqa: PLC0415

    return _run_on_unit(namespace, evidence_cli.show_evidence)


def show_endpoints(namespace: argparse.Namespace) -> int:
    """Print where the Units in the store take traffic."""
    from unitagent.operator.endpoints import endpoints_cli  # noqa: PLC0415

    return _run_on_unit(namespace, endpoints_cli.show_endpoints)


def pause_restarts(namespace: argparse.Namespace) -> int:
    """Pause or resume the restarts of the Unit."""
    from unitagent.operator import unit_cli  # noqa: PLC0415

    return _run_on_unit(namespace, unit_cli.pause_restarts)


def send_order(namespace: argparse.Namespace) -> int:
    """Send the Unit an order: drain or restart."""
    from unitagent.operator import unit_cli  # noqa: PLC0415

    return _run_on_unit(namespace, unit_cli.send_order)


def render_manifest(namespace: argparse.Namespace) -> int:
    """Print a service file as manifests for an engine."""
    from unitagent.operator.render import render_cli  # noqa: PLC0415

    return render_cli.print_manifest(namespace.engine, namespace.file, namespace.agent_image)
