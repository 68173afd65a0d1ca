"""The scripts that the server runs for us, each known by the name that EVALSHA knows it by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

from unitagent.store.connection import call

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

Word = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """One file of Lua; ``sha`` is its name."""

    source: bytes
    sha: str


def _read(name: str) -> Script:
    source = Path(__file__).with_name(f"{name}.lua").read_bytes()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


ALL = EXCHANGE, BOARD, ANNOUNCE, UNITS, HISTORY = tuple(
    map(_read, ("exchange", "board", "announce", "units", "history"))
)


async def run(connection: AbstractConnection, script: Script, *words: Word) -> Any:
    """Run a script by its name, or send it to a server that has yet to learn it."""
    try:
        return await call(connection, "EVALSHA", script.sha, *words)
    except NoScriptError:
        return await call(connection, "EVAL", script.source, *words)
