"""What each command does. What it needs is imported when it runs, so that a health check starts quickly."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from unitagent.errors import ConfigurationError, UnitAgentError
from unitagent.legible import hand_over, tell, warn

if TYPE_CHECKING:
    from unitagent.operator.environment import Here
    from unitagent.settings import Resolved, Settings

DEFAULT_HTTP_ADDRESS = "127.0.0.1:9470"
_RANK_0 = "rank-0"  # a name for where that would be


def _resolve(namespace: argparse.Namespace, *, identity: bool = True) -> Resolved:
    """Settle what flags, environment, service file and platform say."""
    import socket  # noqa: PLC0415

    from unitagent.settings.options import flags  # noqa: PLC0415
    from unitagent.settings.resolution import resolve  # noqa: PLC0415

    return resolve(
        flags(namespace),
        os.environ,
        socket.gethostname(),  # its domain is read from /etc/hosts: a resolver that is down takes seconds
        _read,
        command=namespace.command,
        identity=identity,
    )


def _read(path: str) -> str:
    from pathlib import Path  # noqa: PLC0415

    return Path(path).read_text(encoding="utf-8")


def run(namespace: argparse.Namespace) -> int:
    """Be one instance of a Unit.

    Most of its start is spent on imports. A request to stop that comes meanwhile would be lost on PID 1 and
    kill anybody else, so it is held back until the agent can listen. SIGPIPE and SIGXFSZ are held back before
    there is a second thread, see :mod:`unitagent.workload.signals`.
    """
    import signal  # noqa: PLC0415

    held = {signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}
    mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, held))
    from unitagent.log import Where, set_up  # noqa: PLC0415
    from unitagent.memory import put_off_collecting, share_one_heap  # noqa: PLC0415
    from unitagent.workload.hardening import erase_variables, hide_process  # noqa: PLC0415

    put_off_collecting()
    share_one_heap()
    hide_process()
    found = _resolve(namespace)
    erase_variables("UNIT_SECRET", "UNIT_REDIS_URL")
    settings = found.settings
    where = Where(settings.unit, settings.rank)
    writing = set_up(where, settings.log_format, settings.log_level)
    code = UnitAgentError.exit_code
    try:
        import asyncio  # noqa: PLC0415

        from unitagent.agent import startup  # noqa: PLC0415

        code = asyncio.run(startup.run_agent(found, where, mask))
    except UnitAgentError as error:
        code = error.exit_code
        raise
    finally:
        if not writing.close():
            os._exit(code)  # nobody reads what there is to say, and saying it would take for ever
    return code


def local(namespace: argparse.Namespace) -> int:
    """Run a whole Unit on this machine."""
    from unitagent.operator import local as here  # noqa: PLC0415
    from unitagent.settings.options import flags  # noqa: PLC0415

    options = dict(flags(namespace))
    size = options.pop("UNIT_SIZE", None) or os.environ.get("UNIT_SIZE", "")
    plan = here.plan(size, options, namespace.command)
    return here.run(plan)


def probe(namespace: argparse.Namespace) -> int:
    """Ask an agent."""
    from unitagent.operator import probe as prober  # noqa: PLC0415
    from unitagent.values import listening  # noqa: PLC0415

    given = namespace.address or os.environ.get("UNIT_HTTP_ADDRESS") or DEFAULT_HTTP_ADDRESS
    try:
        host, port = listening(given)
    except ValueError as error:
        where = "--address" if namespace.address else "UNIT_HTTP_ADDRESS"
        accepted = "host:port or [IPv6 address]:port"
        raise ConfigurationError(f"{where}={given!r}: accepted is {accepted}") from error
    if not port:
        raise ConfigurationError("UNIT_HTTP_ADDRESS=off: there is no probe address to ask; give --address")
    return prober.probe(namespace.kind, host, port, namespace.timeout)


def env(namespace: argparse.Namespace) -> int:
    """Show the settings, or what would be run."""
    import asyncio  # noqa: PLC0415

    from unitagent.operator import environment, rehearsal  # noqa: PLC0415

    found = _rehearsed(namespace) if namespace.rehearse else _resolve(namespace)
    for warning in found.warnings:
        warn(f"warning: {warning}")
    if namespace.rehearse:
        from unitagent.operator.rehearsing import rehearse  # noqa: PLC0415 (it needs the frameworks)

        hand_over(rehearsal.shown(rehearse(found), namespace.format) + "\n")
        return 0
    here = asyncio.run(_here(found.settings))
    if found.settings.command:
        here = _with_engine(found, here)
    hand_over(environment.shown(found, namespace.format, here) + "\n")
    return 0


def _with_engine(found: Resolved, here: Here) -> Here:
    """Add what COMMAND tells; an address that was given counts although it may be another machine's."""
    from dataclasses import replace  # noqa: PLC0415

    from unitagent.operator.rehearsing import of_engine  # noqa: PLC0415 (it needs the frameworks)

    card = (found.settings.ifname or here.ifname, found.settings.rank_ip or here.ip)
    asked, port = of_engine(found, card)
    return replace(here, asked=asked, port=port)


def _rehearsed(namespace: argparse.Namespace) -> Resolved:
    """Settle what would be run on a rank, from which nobody sets out: a name may stand in for rank 0."""
    from unitagent.settings.options import PREFIX  # noqa: PLC0415

    try:
        return _resolve(namespace)
    except ConfigurationError as error:
        if not all(problem.startswith("MASTER_ADDRESS missing") for problem in error.problems):
            raise
    warn(f"warning: MASTER_ADDRESS is not set; {_RANK_0} stands in for it")
    setattr(namespace, f"{PREFIX}MASTER_ADDRESS", _RANK_0)
    return _resolve(namespace)


async def _here(settings: Settings) -> Here:
    """Find card and address as ``run`` would, without waiting for them."""
    from unitagent.discovery.network import find_address  # noqa: PLC0415
    from unitagent.operator.environment import Here  # noqa: PLC0415

    if settings.ifname and settings.rank_ip:  # they may be another machine's
        return Here()
    try:
        found = await find_address(settings.ifname, settings.rank_ip, 0, lambda why: warn(f"warning: {why}"))
    except ConfigurationError as error:
        return Here(trouble=str(error))
    return Here(found.ifname, found.ip)


def doctor(namespace: argparse.Namespace) -> int:
    """Examine this container."""
    from unitagent.operator.doctor import examination, finding  # noqa: PLC0415

    peers = [examination.peer(text) for text in namespace.peer]
    findings = examination.examine(lambda identity: _resolve(namespace, identity=identity), peers)
    tell(finding.as_json(findings) if namespace.json else finding.as_text(findings))
    return finding.exit_code(findings)


def status(namespace: argparse.Namespace) -> int:
    """Show the Unit."""
    from unitagent.operator import watching  # noqa: PLC0415

    return watching.show(_resolve(namespace, identity=False).settings, namespace)


def events(namespace: argparse.Namespace) -> int:
    """Tell the Unit's history."""
    from unitagent.operator.history import looking_back  # noqa: PLC0415

    return looking_back.show(_resolve(namespace, identity=False).settings, namespace)


def timeline(namespace: argparse.Namespace) -> int:
    """Draw the Unit's history."""
    from unitagent.operator.history import looking_back  # noqa: PLC0415

    return looking_back.draw(_resolve(namespace, identity=False).settings, namespace)


def endpoints(namespace: argparse.Namespace) -> int:
    """Show where the traffic of all Units goes."""
    from unitagent.operator.endpoints import routing  # noqa: PLC0415

    return routing.endpoints(_resolve(namespace, identity=False).settings, namespace)


def order(namespace: argparse.Namespace) -> int:
    """Ask something of the Unit."""
    from unitagent.operator import watching  # noqa: PLC0415

    return watching.order(_resolve(namespace, identity=False).settings, namespace)


def render(namespace: argparse.Namespace) -> int:
    """Print a service file as manifests for an engine."""
    from unitagent.operator.render import rendering  # noqa: PLC0415

    return rendering.render(namespace.engine, namespace.file, namespace.agent_image)
