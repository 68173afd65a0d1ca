"""The scripts that the server runs for us, each known by the name that EVALSHA knows it by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from unitagent.store.connection import send_command

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class LuaScript:
    """One file of Lua; ``sha`` is its name."""

    source: bytes
    sha: str


def _load_script(name: str) -> LuaScript:
    source = Path(__file__).with_name(f"{name}.lua").read_bytes()
    return LuaScript(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


ALL = EXCHANGE, BOARD, ANNOUNCE, UNITS, HISTORY = tuple(
    map(_load_script, ("exchange", "board", "announce", "units", "history"))
)


async def run_script(connection: AbstractConnection, script: LuaScript, *words: Argument) -> Any:
    """Run a script by its name, or send it to a server that has yet to learn it."""
    try:
        return await send_command(connection, "EVALSHA", script.sha, *words)
    except NoScriptError:
        return await send_command(connection, "EVAL", script.source, *words)
