"""Which store an instance uses, and the embedded store that rank 0 runs if there is no URL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unitagent.core.exits import Exit
from unitagent.errors import ConfigurationError, RefusalError, StoreError, UnitAgentError
from unitagent.settings import Settings
from unitagent.store.address import LocationSource, StoreLocation, make_embedded_location, parse_store_url
from unitagent.store.embedded import MEMBER, EmbeddedServer
from unitagent.system import working_directory
from unitagent.system.addresses import is_loopback
from unitagent.system.host_port import join_host_port
from unitagent.system.keyring import MIN_SECRET_BYTES, Keyring
from unitagent.workload.reaper import Reaper

_log = logging.getLogger(__name__)

DEFAULT_PROBE_PORT = 9470
_RESPAWN = 0.5  # seconds before a server that died is restarted
_CHECK_INTERVAL, _SILENT = 2.5, 4  # seconds between checks of the server, and how many it may miss
_CROWD = 0.1  # seconds between checks while strangers use up the connections
_LOOPBACK = "127.0.0.1"
_STOP = 2.0  # seconds for a server to exit on SIGTERM
_REMEDY = (
    "rank 0's embedded store is expected there: set UNIT_STORE_PORT on all ranks if their probe ports "
    "differ, correct MASTER_ADDRESS if rank 0 has another address, or set UNIT_REDIS_URL to use a "
    "separate store"
)


@dataclass(frozen=True, slots=True)
class StoreSetup:
    """How the store is reached, and who runs it.

    Attributes:
        url: read again for every connection, since a file, a DNS name or a secret may change.
        embedded_here: rank 0 runs the server itself, at ``ip`` and ``port``.
        keys: keyring with the passwords that this server accepts.
        remedy: what the user can do if it is unreachable; empty if the URL makes that clear.

    """

    url: LocationSource
    embedded_here: bool = False
    ip: str = ""
    port: int = 0
    keys: Keyring = field(default_factory=Keyring)
    remedy: str = ""


def locate_store(settings: Settings, ip: str, keys: Keyring) -> StoreSetup:
    """Return the store that these settings mean; an embedded one accepts the passwords of these keys.

    Raises:
        ConfigurationError: neither a URL nor the address of rank 0 is known.

    """
    configured = settings.redis_url
    if settings.redis_url_file is not None:
        path = Path(working_directory.resolve_user_path(settings.redis_url_file))
        return StoreSetup(lambda: _read_url_file(path))
    if configured is not None:
        return StoreSetup(lambda: configured)
    if settings.rank is None:
        raise ConfigurationError("RANK_ID=auto claims a rank in the store, which needs UNIT_REDIS_URL")
    return _locate_embedded(settings, ip, keys)


def _read_url_file(path: Path) -> StoreLocation:
    """Read the URL from its file."""
    try:
        url = parse_store_url(path.read_text(encoding="utf-8").strip())
    except RefusalError as error:
        raise StoreError(f"UNIT_REDIS_URL_FILE: {error}") from error
    return replace(url, variable="UNIT_REDIS_URL_FILE")


def _locate_embedded(settings: Settings, ip: str, keys: Keyring) -> StoreSetup:
    """Locate the embedded store: at rank 0, by default one port above its probes."""
    port = settings.store_port or (settings.http_port or DEFAULT_PROBE_PORT) + 1
    variable = "UNIT_SECRET" if settings.secret_file is None else "UNIT_SECRET_FILE"
    if settings.rank == 0:
        place = ip if settings.size > 1 or keys or settings.insecure else choose_private_address(ip)
        return StoreSetup(
            lambda: make_embedded_location(place, port, keys.passwords, MEMBER, variable=variable),
            True,
            place,
            port,
            keys,
        )
    leader = settings.master_address
    if leader is None:
        raise ConfigurationError(
            "no store: UNIT_REDIS_URL is not set, and the embedded store of rank 0 needs MASTER_ADDRESS "
            "(IP or DNS name of rank 0), which the platform does not provide either"
        )
    return StoreSetup(
        lambda: make_embedded_location(
            leader, port, keys.passwords, MEMBER, asked_from=ip, variable=variable
        ),
        remedy=_REMEDY,
    )


def choose_private_address(ip: str) -> str:
    """Choose an address that only this host can reach, for a store without a password and with one user."""
    return ip if is_loopback(ip) else _LOOPBACK


def refuse_open_store(settings: Settings, where: StoreSetup) -> None:
    """Refuse to run a store that anyone who reaches its port can write to.

    Raises:
        ConfigurationError: it would listen beyond loopback without a password or UNIT_INSECURE.

    """
    if not where.embedded_here or where.keys or is_loopback(where.ip) or settings.insecure:
        return
    place = join_host_port(where.ip, where.port)
    raise ConfigurationError(
        f"UNIT_SECRET is not set: the embedded store would listen at {place} without a password, and anyone "
        "who can reach it could stop or take over this Unit; write a secret of at least "
        f"{MIN_SECRET_BYTES} bytes to a file (`openssl rand -hex 32`) and set UNIT_SECRET_FILE to its path "
        "on all ranks, set UNIT_REDIS_URL to use a separate store, or set UNIT_INSECURE=true on a "
        "trusted network"
    )


class EmbeddedStoreSupervisor:
    """The server at rank 0: started before the agent joins, restarted whenever it dies, stopped last.

    Between :meth:`spawn_server` and :meth:`wait_until_ready` the caller can do other work.
    """

    def __init__(self, where: StoreSetup, reaper: Reaper) -> None:
        self._server = EmbeddedServer(where.ip, where.port, where.keys)
        self._reaper = reaper
        self._pid: int | None = None
        self._gone = asyncio.Event()
        self._ending = False
        self._supervision: asyncio.Future[None] | None = None
        self._preparation: asyncio.Future[None] | None = None

    def spawn_server(self) -> None:
        """Start the server.

        Raises:
            ConfigurationError: no server program is installed.

        """
        self._pid = self._server.spawn_server()
        self._reaper.watch_child(self._pid, self._on_exit, service=True)

    async def wait_until_ready(self) -> None:
        """Wait until the server answers, and supervise it from then on.

        Raises:
            StoreError: it did not start; its port may be in use.

        """
        try:
            await self._server.wait_until_ready()
        except StoreError as error:
            raise StoreError(f"{error}; to use another port, set UNIT_STORE_PORT on all ranks") from error
        self._supervision = asyncio.ensure_future(self._supervise_server())

    async def stop(self) -> None:
        """Stop the server."""
        self._ending = True
        if self._supervision is not None:
            self._supervision.cancel()
        await self._server.close_admin_connection()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._pid is None:  # also when it ended just after the wait
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _STOP)
                return

    async def update_passwords(self, agreed: Callable[[], bool]) -> None:
        """Make the server accept the current secrets; one that is down gets them at its start or the next
        call.

        Clients of a former secret are disconnected once all ranks accept the current ones: until then such a
        client may be a rank, which would be left without a store.
        """
        if self._pid is None:
            return
        with contextlib.suppress(StoreError):
            await self._server.apply_passwords()
            if agreed() and await self._server.disconnect_former():
                _log.info("disconnected clients of the embedded store that used a former secret")

    async def _supervise_server(self) -> None:
        """Kill a server that has not answered for 10 s, whether it hangs or runs an endless script. And
        disconnect clients that use up connections without logging in.
        """
        silent = 0  # checks, not seconds: time in which this process was frozen too does not count
        pause = _CHECK_INTERVAL
        while not self._ending:
            await asyncio.sleep(pause)
            silent = 0 if self._pid is None or await self._server.is_answering() else silent + 1
            pause = (
                _CROWD
                if not silent and await self._server.disconnect_unauthenticated_clients()
                else _CHECK_INTERVAL
            )
            if silent > _SILENT and self._pid is not None:
                _log.error(
                    "the embedded store has not answered for %g s: killing it", _SILENT * _CHECK_INTERVAL
                )
                os.kill(self._pid, signal.SIGKILL)
                silent = 0

    def _on_exit(self, ended: Exit) -> None:
        self._pid = None
        self._gone.set()
        if self._ending:
            return
        _log.error("the embedded store %s: restarting it", ended.describe_exit())
        self._gone.clear()
        self._schedule_restart()

    def _schedule_restart(self) -> None:
        asyncio.get_running_loop().call_later(_RESPAWN, self._restart_server)

    def _restart_server(self) -> None:
        """Try until the server could be spawned."""
        if self._ending:
            return
        try:
            self.spawn_server()
        except (OSError, UnitAgentError) as error:
            _log.error("cannot start the embedded store: %s", error)
            self._schedule_restart()
        else:
            self._preparation = asyncio.ensure_future(self._prepare_restarted())

    async def _prepare_restarted(self) -> None:
        """Wait until a restarted server is ready for agents."""
        try:
            await self._server.wait_until_ready()
        except StoreError as error:
            _log.error("%s", error)
            if self._pid is not None:  # else it has died and is restarted
                os.kill(self._pid, signal.SIGKILL)
