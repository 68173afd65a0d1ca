"""Plain TCP connections, made from an address of ours and within a time."""

from __future__ import annotations

import asyncio
import os
from typing import TypeVar

_P = TypeVar("_P", bound=asyncio.Protocol)


async def connect_tcp(
    protocol: _P, host: str, port: int, *, within: float, source: str = ""
) -> tuple[asyncio.Transport, _P]:
    """Connect, and hand the connection to ``protocol``.

    Raises:
        OSError: no connection (``TimeoutError`` after ``within`` seconds, ``ConnectionRefusedError``, ...).

    """
    local = (source, 0) if source else None
    try:
        async with asyncio.timeout(within):
            loop = asyncio.get_running_loop()
            return await loop.create_connection(lambda: protocol, host, port, local_addr=local)
    except (UnicodeError, OverflowError) as error:
        raise OSError(f"{host}:{port} is not an address") from error
    except RuntimeError as error:  # no thread is left to resolve the name in
        raise OSError(str(error)) from error


async def explain_unreachable(host: str, port: int, *, within: float, source: str = "") -> str:
    """Return nothing when a connection can be made, else why not."""
    try:
        transport, _ = await connect_tcp(asyncio.Protocol(), host, port, within=within, source=source)
    except TimeoutError:
        return f"no connection to {host}:{port} within {within:g} s"
    except OSError as error:
        return f"no connection to {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
    transport.abort()
    return ""
