"""Which store an instance uses, and the embedded one that rank 0 runs when no URL was given."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unitagent import folder
from unitagent.core.exits import Exit
from unitagent.errors import ConfigurationError, RefusalError, StoreError, UnitAgentError
from unitagent.keys import LEAST_SECRET, Keyring
from unitagent.settings import Settings
from unitagent.store.address import Address, Directions, embedded_address, is_loopback, join_host, parse
from unitagent.store.embedded import MEMBER, EmbeddedServer
from unitagent.workload.reaper import Reaper

_log = logging.getLogger(__name__)

DEFAULT_PROBE_PORT = 9470
_RESPAWN = 0.5  # seconds before a server that died is started again
_APART, _SILENT = 2.5, 4  # seconds between looks at the server, and looks without an answer that it may have
_CROWD = 0.1  # seconds between looks while strangers take the server's places
_LOOPBACK = "127.0.0.1"
_STOP = 2.0  # seconds for a server to end on SIGTERM
_REMEDY = (
    "that is where rank 0's embedded store is looked for: set UNIT_STORE_PORT on all ranks if their probe "
    "ports differ, MASTER_ADDRESS if rank 0 has another address, or UNIT_REDIS_URL to a store of its own"
)


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where the store is.

    Attributes:
        url: read anew at every connect: a file may be rewritten, a leader's name may move, as may a secret.
        embedded_here: rank 0 runs the server itself, at ``ip`` and ``port``.
        keys: whose passwords that server takes.
        remedy: what a person can do when it is not reached; empty when that is plain from its URL.

    """

    url: Directions
    embedded_here: bool = False
    ip: str = ""
    port: int = 0
    keys: Keyring = field(default_factory=Keyring)
    remedy: str = ""


def locate_store(settings: Settings, ip: str, keys: Keyring) -> StoreLocation:
    """Find out which store these settings mean; an embedded one takes the passwords of these keys.

    Raises:
        ConfigurationError: neither a URL nor the leader's address is known.

    """
    given = settings.redis_url
    if settings.redis_url_file is not None:
        path = Path(folder.absolute(settings.redis_url_file))
        return StoreLocation(lambda: _read_url_file(path))
    if given is not None:
        return StoreLocation(lambda: given)
    if settings.rank is None:
        raise ConfigurationError("RANK_ID=auto claims a rank in the store: set UNIT_REDIS_URL")
    return _locate_embedded(settings, ip, keys)


def _read_url_file(path: Path) -> Address:
    """Read the URL from its file."""
    try:
        found = parse(path.read_text(encoding="utf-8").strip())
    except RefusalError as error:
        raise StoreError(f"UNIT_REDIS_URL_FILE: {error}") from error
    return replace(found, variable="UNIT_REDIS_URL_FILE")


def _locate_embedded(settings: Settings, ip: str, keys: Keyring) -> StoreLocation:
    """The embedded store listens at rank 0, one port above its probes unless the settings say where."""
    port = settings.store_port or (settings.http_port or DEFAULT_PROBE_PORT) + 1
    variable = "UNIT_SECRET" if settings.secret_file is None else "UNIT_SECRET_FILE"
    if settings.rank == 0:
        place = ip if settings.size > 1 or keys or settings.insecure else _choose_private_address(ip)
        return StoreLocation(
            lambda: embedded_address(place, port, keys.passwords, MEMBER, variable=variable),
            True,
            place,
            port,
            keys,
        )
    leader = settings.master_address
    if leader is None:
        raise ConfigurationError(
            "no store: UNIT_REDIS_URL is not set, and the embedded store of rank 0 needs MASTER_ADDRESS "
            "(IP or DNS name of rank 0), which no platform told either"
        )
    return StoreLocation(
        lambda: embedded_address(leader, port, keys.passwords, MEMBER, asked_from=ip, variable=variable),
        remedy=_REMEDY,
    )


def _choose_private_address(ip: str) -> str:
    """Where a store that has no password, and one user only, listens: out of everybody else's reach."""
    return ip if is_loopback(ip) else _LOOPBACK


def refuse_open_store(settings: Settings, where: StoreLocation) -> None:
    """Refuse to run a store that whoever reaches its port can write to.

    Raises:
        ConfigurationError: it would listen off loopback without a password, and nobody has allowed that.

    """
    if not where.embedded_here or where.keys or is_loopback(where.ip) or settings.insecure:
        return
    place = join_host((where.ip, where.port))
    raise ConfigurationError(
        f"UNIT_SECRET missing: the embedded store would listen at {place} without a password, and whoever "
        f"reaches it could end this Unit or lead it; accepted is a secret of at least {LEAST_SECRET} bytes; "
        "write one into a file (`openssl rand -hex 32`) and set UNIT_SECRET_FILE to it on all ranks, set "
        "UNIT_REDIS_URL to a store of its own, or UNIT_INSECURE=true where nobody else is near"
    )


class EmbeddedStoreSupervisor:
    """The server at rank 0: started before the agent joins, again whenever it dies, ended last.

    From :meth:`spawn` to :meth:`ready` there is time for something else.
    """

    def __init__(self, where: StoreLocation, reaper: Reaper) -> None:
        self._server = EmbeddedServer(where.ip, where.port, where.keys)
        self._reaper = reaper
        self._pid: int | None = None
        self._gone = asyncio.Event()
        self._ending = False
        self._supervision: asyncio.Future[None] | None = None
        self._preparation: asyncio.Future[None] | None = None

    def spawn_server(self) -> None:
        """Start it.

        Raises:
            ConfigurationError: there is no server program.

        """
        self._pid = self._server.spawn()
        self._reaper.watch_child(self._pid, self._on_exit, service=True)

    async def wait_until_ready(self) -> None:
        """Wait until it answers, and look after it from then on.

        Raises:
            StoreError: it did not come up; its port may be taken.

        """
        try:
            await self._server.ready()
        except StoreError as error:
            raise StoreError(f"{error}; UNIT_STORE_PORT, on all ranks, gives it another port") from error
        self._supervision = asyncio.ensure_future(self._supervise_server())

    async def stop(self) -> None:
        """End it."""
        self._ending = True
        if self._supervision is not None:
            self._supervision.cancel()
        await self._server.let_go()
        if self._pid is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _STOP)
                return

    async def update_passwords(self, agreed: Callable[[], bool]) -> None:
        """Let clients in by the secrets of now; a server that is away gets them when it comes, or is told
        with the next call. Who is in by a former one is put out when all ranks have agreed on those of now:
        until then it may be a rank, which would be left without a store.
        """
        if self._pid is None:
            return
        with contextlib.suppress(StoreError):
            await self._server.follow()
            if agreed() and await self._server.put_out_former():
                _log.info("disconnected whoever was in the embedded store by a former secret")

    async def _supervise_server(self) -> None:
        """Kill a server that has not answered for 10 s: busy with a script, or hanging, it would stay so. And
        put out who takes places there and does not log in.
        """
        silent = 0  # looks, not seconds: what froze this process as well is no silence
        pause = _APART
        while not self._ending:
            await asyncio.sleep(pause)
            silent = 0 if self._pid is None or await self._server.answers() else silent + 1
            pause = _CROWD if not silent and await self._server.makes_room() else _APART
            if silent > _SILENT and self._pid is not None:
                _log.error("the embedded store has not answered for %g s; it is killed", _SILENT * _APART)
                os.kill(self._pid, signal.SIGKILL)
                silent = 0

    def _on_exit(self, ended: Exit) -> None:
        self._pid = None
        self._gone.set()
        if self._ending:
            return
        _log.error("the embedded store %s; it is started again", ended.describe())
        self._gone.clear()
        self._schedule_restart()

    def _schedule_restart(self) -> None:
        asyncio.get_running_loop().call_later(_RESPAWN, self._restart_server)

    def _restart_server(self) -> None:
        """Try until there is a process, or a file, to be had."""
        if self._ending:
            return
        try:
            self.spawn_server()
        except (OSError, UnitAgentError) as error:
            _log.error("the embedded store cannot be started: %s", error)
            self._schedule_restart()
        else:
            self._preparation = asyncio.ensure_future(self._prepare_restarted())

    async def _prepare_restarted(self) -> None:
        """Make a server that was started again one that agents can use."""
        try:
            await self._server.ready()
        except StoreError as error:
            _log.error("%s", error)
            if self._pid is not None:  # else it has ended, and is started again
                os.kill(self._pid, signal.SIGKILL)
