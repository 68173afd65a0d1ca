"""``unitagent run`` from its settings to its exit code: find the address, refuse invalid settings, and start
the embedded store if this instance runs it.

The invariant: invalid settings are refused before anything but the watchdog is started. Imports take most of
a start: the rest is in :mod:`instance`, which is imported while the embedded store starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

from unitagent import __version__
from unitagent.agent.launch import Launcher
from unitagent.agent.process_context import ProcessContext, kill_former_workload, merge_user_environment
from unitagent.agent.store_setup import (
    EmbeddedStoreSupervisor,
    StoreSetup,
    locate_store,
    refuse_open_store,
)
from unitagent.discovery.network import find_instance_address
from unitagent.errors import UnitAgentError
from unitagent.settings import Resolved
from unitagent.settings.variables import AUTO_KEEPER
from unitagent.system import working_directory
from unitagent.system.addresses import explain_other_master_address, refuse_unreachable_listener
from unitagent.system.interface_variables import find_misleading_variables
from unitagent.system.log import LogContext
from unitagent.system.process_setup import resume_garbage_collection
from unitagent.system.threads import run_in_thread_or_here
from unitagent.workload import command
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import STOP, install_handlers, read_inherited_signals
from unitagent.workload.watchdog_client import WatchdogClient

_log = logging.getLogger(__name__)

_SETTLED = 1.0  # seconds; by then most starts have allocated their long-lived objects
_INTERFACE_SECONDS = 60.0  # an interface may be attached some time after the container has started


async def run_agent(resolved: Resolved, where: LogContext, mask: frozenset[int] = frozenset()) -> int:
    """Run one instance of the Unit; return the exit code.

    ``mask``: the signals that were blocked when this process started; they are restored once signals are
    handled.

    Raises:
        UnitAgentError: an error for the user; exit with its ``exit_code``.

    """
    for warning in resolved.warnings:
        _log.warning("%s", warning)
    working_directory.leave_start_directory()
    asyncio.get_running_loop().call_later(_SETTLED, resume_garbage_collection)
    context = ProcessContext(read_inherited_signals(mask), Reaper(), WatchdogClient(), resolved.settings.keys)
    context.reaper.start_reaping()
    context.watchdog.start(context.reaper)
    early = asyncio.ensure_future(_prepare_and_run(resolved, where, context))
    asked: list[int] = []

    def stop(number: int) -> None:
        asked.append(number)
        early.cancel()

    blocked = install_handlers(context.inherited_signals, on_stop=stop, forward=lambda _: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, (mask - STOP) | blocked)
    try:
        return await early
    except asyncio.CancelledError:
        if not asked:  # an exit without a request must not look like success
            raise UnitAgentError("internal error: the agent was cancelled without a signal") from None
        _log.info("received %s before joining: stopping", signal.Signals(asked[0]).name)
        return 0
    finally:
        await context.watchdog.close()
        context.reaper.close()


async def _prepare_and_run(resolved: Resolved, where: LogContext, context: ProcessContext) -> int:
    settings = resolved.settings
    with working_directory.in_start_directory():
        command.check_command(settings.command, os.environ)
        if settings.keeper is not None and settings.keeper != AUTO_KEEPER:
            command.check_command(settings.keeper, os.environ, "UNIT_KEEPER")
    address = await find_instance_address(settings.ifname, settings.rank_ip, _INTERFACE_SECONDS, _log.warning)
    if settings.http_port and settings.size > 1:
        await run_in_thread_or_here(
            partial(refuse_unreachable_listener, settings.http_host, settings.http_port, address.ip)
        )
    if settings.size > 1 and settings.has_embedded_store:
        elsewhere = explain_other_master_address(settings.master_address, address.ip, settings.rank)
        if elsewhere:
            _log.warning("%s", elsewhere)
    for problem, remedy in find_misleading_variables(
        merge_user_environment(resolved), address.ifname, address.ip
    ):
        _log.warning("%s: ranks may wait for each other forever; %s", problem, remedy)
    some_rank = settings.size - 1 if settings.rank is None else settings.rank
    launcher = Launcher(resolved, some_rank, (address.ifname, address.ip), "")
    launcher.prepare_dry_run()  # raises if the command is invalid
    launcher.prepare_dry_keeper()  # so does this
    location = locate_store(settings, address.ip, context.keys)
    refuse_open_store(settings, location)
    rank = "any rank" if settings.rank is None else f"rank {settings.rank}"
    _log.info("unitagent %s starts as %s of %d in Unit %s", __version__, rank, settings.size, settings.unit)
    async with _run_embedded_store(location, context) as server:
        if settings.rank is not None:
            await kill_former_workload(settings.unit, settings.rank)
        from unitagent.agent.instance import run_instance  # noqa: PLC0415 (meanwhile the server starts)

        return await run_instance(resolved, where, context, address, (location, server))


@contextlib.asynccontextmanager
async def _run_embedded_store(
    location: StoreSetup, context: ProcessContext
) -> AsyncIterator[EmbeddedStoreSupervisor | None]:
    """Run the embedded store for the duration of the block, if it belongs here."""
    if not location.embedded_here:
        yield None
        return
    server = EmbeddedStoreSupervisor(location, context.reaper)
    server.spawn_server()
    try:
        yield server
    finally:
        await server.stop()
