"""Checks whether a keeper is ready: ``UNIT_KEEPER_READY`` with its placeholders filled in.

The invariant: every check ends, whatever it meets, and says in words why the keeper is not ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from typing import TYPE_CHECKING

from unitagent.probes.http_client import FetchError, FetchRequest, fetch_url
from unitagent.setting_parsers import redact_url
from unitagent.system.addresses import explain_unreachable
from unitagent.system.safe_output import drop_colours
from unitagent.system.tcp_sockets import list_listeners
from unitagent.system.working_directory import resolve_user_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CHECK_TIMEOUT = 5.0  # seconds
_OK = range(200, 300)
_PAGE = 64 * 1024  # bytes
_LINE = 1000  # characters of a line that are looked at: a search may take their square, and nothing else runs


class KeeperReadiness:
    """The readiness check of a keeper that has not started yet.

    Args:
        ready: a URL, ``tcp:PORT``, ``file:PATH`` or ``log:PATTERN``.
        ip: address of this instance, which a port may be bound to.

    Attributes:
        criterion: when the keeper is ready, in words.

    """

    def __init__(self, ready: str, ip: str) -> None:
        kind, _, rest = ready.partition(":")
        self._ip, self._rest, self._url = ip, rest, ready
        self._pattern = re.compile(rest) if kind == "log" else None
        self._seen = asyncio.Event()
        self._path = resolve_user_path(rest) if kind == "file" else ""
        self._before = _identify_file(self._path) if kind == "file" else None
        self._listening = _list_listeners(int(rest)) if kind == "tcp" else frozenset()
        checks: dict[str, Callable[[], Awaitable[str]]] = {
            "log": self._await_line, "tcp": self._try_port, "file": self._look_for_file
        }  # fmt: skip
        self._check = checks.get(kind, self._ask_url)
        signs = {
            "log": f"a line of its output matches {rest}",
            "tcp": f"port {rest} accepts connections",
            "file": f"{rest} is there",
        }
        self.criterion = signs.get(kind, f"GET {redact_url(ready)} answers 2xx")

    def read_line(self, line: str) -> None:
        """Take a line of the keeper's output. A progress bar rewrites its line after each return: what it
        overwrites are lines of their own. Colours may be a part of what is looked for, or in its way.
        """
        if self._pattern is None or self._seen.is_set():
            return
        pieces = (piece[:_LINE] for piece in line.rstrip("\r").split("\r"))
        if any(self._pattern.search(text) for piece in pieces for text in {piece, drop_colours(piece)}):
            self._seen.set()

    async def explain_not_ready(self) -> str:
        """Say why the keeper is not ready; empty if it is."""
        try:
            return await self._check()
        except Exception as error:  # noqa: BLE001 (a check that fails must not end in silence)
            return f"internal error: {error!r}"

    async def _await_line(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_TIMEOUT):
                await self._seen.wait()
        return "" if self._seen.is_set() else f"no line of its output matches {self._rest}"

    async def _try_port(self) -> str:
        why = ""
        for host in ("127.0.0.1", self._ip):
            why = await explain_unreachable(host, int(self._rest), within=_CHECK_TIMEOUT)
            if not why:
                now = await asyncio.to_thread(_list_listeners, int(self._rest))
                older = bool(now) and now <= self._listening
                return f"port {self._rest} was in use before the keeper started" if older else ""
        return why

    async def _look_for_file(self) -> str:
        found = await asyncio.to_thread(_identify_file, self._path)
        if found is None:
            return f"{self._rest} is not there"
        return "" if found != self._before else f"{self._rest} is older than the keeper"

    async def _ask_url(self) -> str:
        ask = FetchRequest(url=self._url, timeout=_CHECK_TIMEOUT, limit=_PAGE, verified=False)
        try:
            page = await fetch_url(ask)
        except FetchError as error:
            return f"GET {redact_url(self._url)}: {error}"
        return "" if page.code in _OK else f"GET {redact_url(self._url)} answers {page.code}"


def _list_listeners(port: int) -> frozenset[str]:
    """List the sockets that listen on a port, to distinguish the keeper's from another program's. Blocks."""
    return frozenset(one.inode for one in list_listeners() if one.port == port)


def _identify_file(path: str) -> tuple[int, int] | None:
    """Identify a file, to distinguish a new one from one that an earlier keeper left. Blocks."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
