"""``unitagent env --command``: what ``run`` would start on one rank, without joining or starting anything.

Stand-ins replace what only a running Unit knows (the other ranks' addresses, the master port, the
generation), and their source says so.

The invariant: the output holds no secret; anything that looks like one is masked, wherever it stands in a
command.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unitagent.agent.launch import Launch, Launcher, choose_defaults, list_replaced_variables, place_caches
from unitagent.discovery.network import find_instance_address
from unitagent.errors import ConfigurationError
from unitagent.settings import Resolved
from unitagent.system import redaction
from unitagent.system.safe_output import print_warning
from unitagent.workload.command import check_command

_INTERFACE_SECONDS = 3.0  # a person waits for this answer
_UNSET = "not set"
_WARM_OFF = "UNIT_WARM=off"
_PLATFORMS = "the rendezvous of {} would be the same in every generation"
_STAND_INS = {
    "MASTER_PORT": "stands in for a port that is free on rank 0 in each generation",
    "UNIT_GENERATION": "stands in for the Unit's current generation",
    "UNIT_KEEPER_GENERATION": "stands in for the generation that started the keepers",
    "UNIT_KEEPER_PORT": "stands in for the keepers' port on rank 0",
    "UNIT_RANK_IPS": "this instance's address stands in for the other ranks' addresses",
    "PET_MASTER_PORT": "MASTER_PORT, for torchrun",
}
_DEFAULT = "the default for frameworks"
_DEFAULTS = {"NCCL_SOCKET_IFNAME": f"{_DEFAULT}; with = first, NCCL matches the whole name"}


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one rank would start.

    Attributes:
        argv: the command line.
        flags: flag, or program before the user's own, that is added -> why.
        environment: variable that is added or changed -> its value and source.
        removed: variable that the workload does not get -> why.
        health: rank 0's health check and its source; None if there is none.
        start: ``warm`` or ``cold``, and why.
        keeper: the command line of the keeper; empty for none.

    """

    rank: int
    argv: Sequence[str]
    flags: Mapping[str, str]
    environment: Mapping[str, tuple[str, str]]
    removed: Mapping[str, str]
    health: tuple[str, str] | None = None
    start: tuple[str, str] = ("cold", _WARM_OFF)
    keeper: Sequence[str] = ()


def format_dry_run(plan: DryRun, form: str) -> str:
    """Format a dry run as ``shell`` or ``json``."""
    return _format_json(plan) if form == "json" else _format_shell(plan)


def _format_json(plan: DryRun) -> str:
    fields = {
        "rank": plan.rank,
        "command": list(redaction.redact_words(plan.argv)),
        "flags": dict(plan.flags),
        "environment": {
            name: {"value": redaction.redact_value(name, value), "source": source}
            for name, (value, source) in plan.environment.items()
        },
        "removed": dict(plan.removed),
        "start": dict(zip(("kind", "why"), plan.start, strict=True)),
        "health": dict(zip(("asked", "source"), plan.health, strict=True)) if plan.health else None,
        "keeper": list(redaction.redact_words(plan.keeper)) if plan.keeper else None,
    }
    return json.dumps(fields, indent=2)


def _format_shell(plan: DryRun) -> str:
    rows = [
        (f"export {name}={shlex.quote(redaction.redact_value(name, value))}", source)
        for name, (value, source) in plan.environment.items()
    ]
    rows += [(f"unset {name}", why) for name, why in plan.removed.items()]
    rows += [(f"# {flag}", why) for flag, why in plan.flags.items()]
    rows += [(f"# health: {plan.health[0]}", plan.health[1])] if plan.health else []
    rows += [(f"# start: {plan.start[0]}", plan.start[1])] if plan.start[1] != _WARM_OFF else []
    width = max((len(left) for left, _ in rows), default=0)
    lines = [f"{left:<{width}}  # {why}" for left, why in rows]
    keeper = shlex.join(redaction.redact_words(plan.keeper))
    lines += [f"# the keeper, which starts before it: {keeper}"] if keeper else []
    return "\n".join([*lines, shlex.join(redaction.redact_words(plan.argv))])


def plan_launch(resolved: Resolved) -> DryRun:
    """Find the interface and complete the command for the rank of these settings.

    Raises:
        ConfigurationError: there is no command, rank or address, or flags contradict the Unit.

    """
    settings = resolved.settings
    if not settings.command:
        raise ConfigurationError("COMMAND missing: run `unitagent env --command -- COMMAND [ARG...]`")
    if settings.rank is None:
        raise ConfigurationError(
            "RANK_ID='auto': must be a number here, because only `run` claims a rank; use --rank N"
        )
    interface = asyncio.run(_find_interface(settings.ifname, settings.rank_ip))
    defaults = choose_defaults(resolved, interface[0], settings.rank, _warn)
    launcher = Launcher(resolved, settings.rank, interface, marker="", defaults=defaults)
    launch = launcher.prepare_dry_run(settings.master_address)
    keeper = launcher.prepare_dry_keeper(settings.master_address)
    for notice in launch.notices:
        _warn(notice)
    return DryRun(
        rank=settings.rank,
        argv=launch.argv,
        flags={name: why for name, why in launch.origins.items() if name not in launch.env},
        environment=_list_changed(launch, resolved),
        removed=_list_removed(launch.env, resolved),
        health=(launch.health_probe.description, launch.health_probe.origin) if launch.health_probe else None,
        start=_explain_start(resolved.settings.warm, launch),
        keeper=keeper.argv if keeper is not None else (),
    )


def check_launch(resolved: Resolved) -> None:
    """Check the command of an instance whose rank, interface and address are set, as ``run`` does.

    Raises:
        CommandError: it cannot be run.
        ConfigurationError: its flags contradict the Unit.

    """
    settings = resolved.settings
    check_command(settings.command, os.environ)
    interface = settings.ifname or "", settings.rank_ip or ""
    launcher = Launcher(resolved, settings.rank or 0, interface, marker="")
    launcher.prepare_dry_run(settings.master_address)
    launcher.prepare_dry_keeper(settings.master_address)


def _explain_start(mode: str, launch: Launch) -> tuple[str, str]:
    """Find out whether a restart would be warm, as far as that can be known without trying."""
    if mode == "off":
        return "cold", _WARM_OFF
    from unitagent.workload.python_command import UnresolvedError, resolve_warm  # noqa: PLC0415 (few ask for it)

    try:
        resolve_warm(launch.argv, launch.env, launch.warm_modules)
    except UnresolvedError as error:
        return "cold", f"UNIT_WARM={mode}: {error}"
    return "warm", f"UNIT_WARM={mode}: from a process that has imported {', '.join(launch.warm_modules)}"


def find_engine_endpoints(resolved: Resolved, interface: tuple[str, str]) -> tuple[str, str]:
    """Find rank 0's health check and the port for requests; empty if unknown.

    Problems of the command are left to ``run`` and ``plan_launch``.
    """
    if resolved.settings.rank != 0 or not resolved.settings.command or not interface[1]:
        return "", ""
    try:
        launch = Launcher(resolved, 0, interface, marker="").prepare_dry_run()
    except ConfigurationError:
        return "", ""
    asked = f"{launch.health_probe.description} ({launch.health_probe.origin})" if launch.health_probe else ""
    return asked, str(launch.traffic_port or "")


async def _find_interface(ifname: str | None, rank_ip: str | None) -> tuple[str, str]:
    """Find interface and address as ``run`` does; an explicit address may belong to another machine."""
    try:
        address = await find_instance_address(ifname, rank_ip, 0.0 if rank_ip else _INTERFACE_SECONDS, _warn)
    except ConfigurationError as error:
        if rank_ip is None:
            raise
        _warn(f"{error.problems[0]}; it is used anyway")
        return ifname or "", rank_ip
    return address.ifname, address.ip


def _warn(what: str) -> None:
    print_warning(f"warning: {what}")


def _list_changed(launch: Launch, resolved: Resolved) -> dict[str, tuple[str, str]]:
    return {
        name: (value, _explain_origin(name, launch, resolved))
        for name, value in sorted(launch.env.items())
        if value and os.environ.get(name) != value
    }


def _explain_origin(name: str, launch: Launch, resolved: Resolved) -> str:
    if name in launch.origins:
        return launch.origins[name]
    if name in list_replaced_variables(resolved):
        return f"instead of {os.environ[name]!r}: {_PLATFORMS.format(resolved.platform)}"
    if name in _STAND_INS:
        return _STAND_INS[name]
    if name in resolved.environment:
        return f"service file {resolved.settings.config}: containers[0].env"
    if name in place_caches(resolved, resolved.settings.rank or 0):
        return "UNIT_CACHE_DIR: kept for the next container"
    if name == "NCCL_IB_HCA":
        return "UNIT_RDMA=auto: the RDMA port of the interface"
    if name in resolved.sources:
        return _explain_setting(name, resolved)
    return _DEFAULTS.get(name, _DEFAULT)


def _explain_setting(name: str, resolved: Resolved) -> str:
    """Explain where one of our variables comes from; unset ones are found on this machine."""
    source = resolved.sources[name]
    if name == "MASTER_ADDRESS" and resolved.settings.rank == 0:
        return "rank 0: our own address"
    if name == "MASTER_ADDRESS":
        origin = "our own address" if source == _UNSET else source
        return f"{origin}; stands in for the address that rank 0 announces"
    return "found on this machine" if source == _UNSET else source


def _list_removed(environ: Mapping[str, str], resolved: Resolved) -> dict[str, str]:
    """List what the workload does not get; empty variables count as unset anyway."""
    return {
        name: _explain_removal(name, text, resolved)
        for name, text in sorted(os.environ.items())
        if text and name not in environ
    }


def _explain_removal(name: str, text: str, resolved: Resolved) -> str:
    if name in list_replaced_variables(resolved):
        return _PLATFORMS.format(resolved.platform)
    return "a Kubernetes service link, not a port" if text.startswith("tcp://") else "not for the workload"
