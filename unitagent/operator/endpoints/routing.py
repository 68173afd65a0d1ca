"""``unitagent endpoints``: from the Units of a store to a file that a balancer reads.

The invariant: what is written was told by the store. When it tells nothing, the last file stays.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

from unitagent.agent.secret_rotation import SecretFile
from unitagent.errors import ConfigurationError, StoreError
from unitagent.keys import Keyring
from unitagent.legible import hand_over, warn
from unitagent.operator.endpoints.formats import rendered
from unitagent.operator.endpoints.outlook import Outlook
from unitagent.operator.endpoints.target import Target
from unitagent.operator.watching import store_url
from unitagent.settings import Settings
from unitagent.store.protocol import Entry
from unitagent.store.registry import Registry

_EVERY = 0.25  # seconds between two looks
_ASK = 2.0  # seconds for an answer of the store
_PARTING = 2.0  # seconds for a command that runs when we are asked to stop


def endpoints(settings: Settings, namespace: argparse.Namespace) -> int:
    """Print the list, or keep a file of it."""
    if namespace.on_change and not namespace.watch:
        raise ConfigurationError("--on-change CMD is run when the file of --watch changes: give --watch FILE")
    if namespace.format == "envoy" and not settings.service:
        raise ConfigurationError(
            "--format envoy: the file is of one cluster, and Envoy refuses it with any other; "
            "give --service NAME (UNIT_SERVICE), and keep a file for each service"
        )
    if namespace.watch:
        target = Target(Path(namespace.watch), namespace.on_change)
        return asyncio.run(_Watch(settings, namespace.format, target).run())
    hand_over(asyncio.run(_once(settings, namespace.format)))
    return 0


async def _once(settings: Settings, kind: str) -> str:
    registry = await _open(settings, settings.keys)
    try:
        seen = Outlook(settings.service).see(await registry.read(), time.monotonic())
    finally:
        await registry.close()
    return rendered(kind, Addressed().of(seen), settings.service)


async def _open(settings: Settings, keys: Keyring) -> Registry:
    url = await asyncio.to_thread(store_url, settings, keys)
    return Registry(url, timeout=_ASK, keys=keys, warn=_warn)


class _Watch:
    """Keeps a file up to date until it is asked to stop."""

    def __init__(self, settings: Settings, kind: str, target: Target) -> None:
        self._settings = settings
        self._kind = kind
        self._target = target
        self._outlook = Outlook(settings.service)
        self._addressed = Addressed()
        self._started = time.monotonic()
        self._lost = False
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Look, write, tell; returns the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        keys = self._settings.keys
        file = SecretFile(self._settings.secret_file, keys, _say, _warn)
        registry = await _open(self._settings, keys)
        try:
            async with file.watch_in_background(self._settings.heartbeat):
                await self._keep(registry, stop)
        finally:
            await self._part()
            await registry.close()
        return 0

    async def _keep(self, registry: Registry, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._look(registry)
            if self._target.due and (self._telling is None or self._telling.done()):
                self._telling = asyncio.create_task(self._tell())
            await _pause(stop)

    async def _tell(self) -> None:
        """Run the command beside the looks: one that hangs keeps no dead Unit in the file."""
        if trouble := await asyncio.to_thread(self._target.tell):
            _warn(trouble)

    async def _part(self) -> None:
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=_PARTING)
            self._target.end()
            await self._telling

    async def _look(self, registry: Registry) -> None:
        try:
            sights = await registry.read()
        except StoreError as error:
            self._outlook.lose(time.monotonic())
            if not self._lost:
                _warn(f"{error}; {self._target.path} stays as it is")
            self._lost = True
            return
        if self._lost:
            _warn("the store answers again")
        self._lost = False
        found = self._outlook.see(sights, time.monotonic())
        if found or time.monotonic() - self._started > self._settings.lease:
            self._write(found)

    def _write(self, found: tuple[Entry, ...]) -> None:
        """An empty list is believed only after a lease: a store that has just started is empty too."""
        entries = self._addressed.of(found)
        if self._target.put(rendered(self._kind, entries, self._settings.service)):
            names = ", ".join(one.unit for one in entries) or "none"
            _say(f"{self._target.path}: Units that take traffic: {names}")


class Addressed:
    """Leaves out the Units that nobody can send anything to, and says so once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def of(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """The entries with a port."""
        for one in entries:
            if not one.port and one.unit not in self._said:
                self._said.add(one.unit)
                _warn(f"Unit {one.unit} is ready, but nobody knows its port: set UNIT_TRAFFIC_PORT there")
        return tuple(one for one in entries if one.port)


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_EVERY):
            await stop.wait()
    except TimeoutError:
        pass


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _say(text: str) -> None:
    warn(text)
