"""``unitagent endpoints``: from the Units in a store to a file that a load balancer reads.

The invariant: the file only contains what the store reported. While the store is unreachable, the last file
stays.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

from unitagent.agent.secret_rotation import SecretFile
from unitagent.errors import ConfigurationError, StoreError
from unitagent.operator.endpoints.endpoint_tracker import EndpointTracker
from unitagent.operator.endpoints.formats import format_endpoints
from unitagent.operator.endpoints.watched_file import WatchedFile
from unitagent.operator.store_locator import find_store_url
from unitagent.settings import Settings
from unitagent.store.protocol import Endpoint
from unitagent.store.registry import Registry
from unitagent.system.keyring import Keyring
from unitagent.system.safe_output import print_verbatim, print_warning

_EVERY = 0.25  # seconds between two reads
_ANSWER_TIMEOUT = 2.0  # seconds for an answer of the store
_PARTING = 2.0  # seconds for a running command when we stop


def show_endpoints(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the list once, or keep a file up to date."""
    if namespace.on_change and not namespace.watch:
        raise ConfigurationError("--on-change: requires --watch FILE, after whose changes the command runs")
    if namespace.format == "envoy" and not settings.service:
        raise ConfigurationError(
            "--format envoy: requires --service NAME (UNIT_SERVICE), because Envoy accepts only one cluster "
            "per file; keep a file for each service"
        )
    if namespace.watch:
        target = WatchedFile(Path(namespace.watch), namespace.on_change)
        return asyncio.run(_EndpointWatch(settings, namespace.format, target).run())
    print_verbatim(asyncio.run(_format_once(settings, namespace.format)))
    return 0


async def _format_once(settings: Settings, kind: str) -> str:
    registry = await _open_registry(settings, settings.keys)
    try:
        seen = EndpointTracker(settings.service).observe_registry(await registry.read(), time.monotonic())
    finally:
        await registry.close()
    return format_endpoints(kind, PortFilter().drop_portless(seen), settings.service)


async def _open_registry(settings: Settings, keys: Keyring) -> Registry:
    url = await asyncio.to_thread(find_store_url, settings, keys)
    return Registry(url, timeout=_ANSWER_TIMEOUT, keys=keys, warn=_print_warning)


class _EndpointWatch:
    """Keeps a file up to date until a signal stops it."""

    def __init__(self, settings: Settings, kind: str, target: WatchedFile) -> None:
        self._settings = settings
        self._kind = kind
        self._target = target
        self._tracker = EndpointTracker(settings.service)
        self._port_filter = PortFilter()
        self._started = time.monotonic()
        self._lost = False
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Read the store, write the file, run the command; returns the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        keys = self._settings.keys
        file = SecretFile(self._settings.secret_file, keys, _print_message, _print_warning)
        registry = await _open_registry(self._settings, keys)
        try:
            async with file.watch_in_background(self._settings.heartbeat):
                await self._watch_store(registry, stop)
        finally:
            await self._finish_command()
            await registry.close()
        return 0

    async def _watch_store(self, registry: Registry, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._poll_store(registry)
            if self._target.due and (self._telling is None or self._telling.done()):
                self._telling = asyncio.create_task(self._run_command())
            await _wait_or_stop(stop)

    async def _run_command(self) -> None:
        """Run the command concurrently: if it hangs, the file still follows the store."""
        if trouble := await asyncio.to_thread(self._target.run_command):
            _print_warning(trouble)

    async def _finish_command(self) -> None:
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=_PARTING)
            self._target.kill_command()
            await self._telling

    async def _poll_store(self, registry: Registry) -> None:
        try:
            snapshot = await registry.read()
        except StoreError as error:
            self._tracker.note_outage(time.monotonic())
            if not self._lost:
                _print_warning(f"{error}; {self._target.path} stays unchanged")
            self._lost = True
            return
        if self._lost:
            _print_warning("the store answers again")
        self._lost = False
        endpoints = self._tracker.observe_registry(snapshot, time.monotonic())
        if endpoints or time.monotonic() - self._started > self._settings.lease:
            self._write_file(endpoints)

    def _write_file(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Write the list; an empty one only after a lease, since a store that has just started is empty
        too.
        """
        entries = self._port_filter.drop_portless(endpoints)
        if self._target.write_if_changed(format_endpoints(self._kind, entries, self._settings.service)):
            names = ", ".join(one.unit for one in entries) or "none"
            _print_message(f"{self._target.path}: Units that take traffic: {names}")


class PortFilter:
    """Drops the Units without a known port, and warns once for each."""

    def __init__(self) -> None:
        self._already_warned: set[str] = set()

    def drop_portless(self, entries: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Return the entries with a port."""
        for one in entries:
            if not one.port and one.unit not in self._already_warned:
                self._already_warned.add(one.unit)
                _print_warning(
                    f"Unit {one.unit} is ready, but its port is unknown: set UNIT_TRAFFIC_PORT there"
                )
        return tuple(one for one in entries if one.port)


async def _wait_or_stop(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_EVERY):
            await stop.wait()
    except TimeoutError:
        pass


def _print_warning(text: str) -> None:
    _print_message(f"warning: {text}")


def _print_message(text: str) -> None:
    print_warning(text)
