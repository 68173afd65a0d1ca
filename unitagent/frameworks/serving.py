"""Where an engine takes requests, read off its own flags.

The invariant: an address is only given out when the flags leave no doubt about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unitagent.frameworks.flags import Flag
from unitagent.frameworks.untold import UntoldError

_PORT = Flag("--port")
HOST = Flag("--host")
_TLS = Flag("--ssl-certfile", ("--ssl-keyfile", "--ssl"))
_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True, slots=True)
class Door:
    """How an engine says where it listens.

    Attributes:
        port: its default.
        elsewhere: flags with which it does not listen on a port at all.

    """

    port: int
    port_flag: Flag = _PORT
    host_flag: Flag = HOST
    elsewhere: tuple[Flag, ...] = ()

    def opened(self, words: Sequence[str]) -> OpenDoor | None:
        """Return where it listens with these arguments; None when that cannot be told."""
        try:
            return self._opened(words)
        except UntoldError:
            return None

    def said(self, words: Sequence[str]) -> str | None:
        """Return what these arguments say of the port, untold or not; None where they say nothing."""
        return self.port_flag.written(words)

    def _opened(self, words: Sequence[str]) -> OpenDoor | None:
        said = self.port_flag.value(words)
        port = self.port if said is None else self.port_flag.number(words)
        if not port or any(flag.among(words) for flag in self.elsewhere):
            return None
        host = self.host_flag.value(words) or ""
        return OpenDoor(port, _ANY_ADDRESS.get(host, bracketed(host)), _TLS.among(words))


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """A port, and the address to ask it at from the same container."""

    port: int
    host: str
    tls: bool

    @property
    def health(self) -> str:
        """A check for it. With TLS nobody here could verify the name, so a connection has to do."""
        address = f"{self.host}:{self.port}"
        return f"tcp://{address}" if self.tls else f"http://{address}/health"

    @property
    def metrics(self) -> str | None:
        """Where its metrics are."""
        return None if self.tls else f"http://{self.host}:{self.port}/metrics"


def everywhere(address: str) -> str:
    """Return what to listen at so that requests to ``address`` arrive, and the agent's own questions too."""
    return "::" if ":" in address else "0.0.0.0"


def bracketed(address: str) -> str:
    """Return an address as it stands before ``:PORT``."""
    return f"[{address}]" if ":" in address else address
