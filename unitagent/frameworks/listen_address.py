"""Where an engine takes requests, read off its own flags.

The invariant: an address is only given out when the flags leave no doubt about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unitagent.frameworks.command import UnreadableError
from unitagent.frameworks.flags import Flag

_PORT = Flag("--port")
HOST = Flag("--host")
_TLS = Flag("--ssl-certfile", ("--ssl-keyfile", "--ssl"))
_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True, slots=True)
class ListenFlags:
    """How an engine says where it listens.

    Attributes:
        port: its default.
        elsewhere: flags with which it does not listen on a port at all.

    """

    port: int
    port_flag: Flag = _PORT
    host_flag: Flag = HOST
    elsewhere: tuple[Flag, ...] = ()

    def find_address(self, words: Sequence[str]) -> ListenAddress | None:
        """Return where it listens with these arguments; None when that cannot be told."""
        try:
            return self._read_address(words)
        except UnreadableError:
            return None

    def read_port_text(self, words: Sequence[str]) -> str | None:
        """Return what these arguments say of the port, untold or not; None where they say nothing."""
        return self.port_flag.read_text(words)

    def _read_address(self, words: Sequence[str]) -> ListenAddress | None:
        said = self.port_flag.read_value(words)
        port = self.port if said is None else self.port_flag.read_number(words)
        if not port or any(flag.is_set(words) for flag in self.elsewhere):
            return None
        host = self.host_flag.read_value(words) or ""
        return ListenAddress(port, _ANY_ADDRESS.get(host, bracket_ipv6(host)), _TLS.is_set(words))


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A port, and the address to ask it at from the same container."""

    port: int
    host: str
    tls: bool

    @property
    def health_url(self) -> str:
        """A check for it. With TLS nobody here could verify the name, so a connection has to do."""
        address = f"{self.host}:{self.port}"
        return f"tcp://{address}" if self.tls else f"http://{address}/health"

    @property
    def metrics_url(self) -> str | None:
        """Where its metrics are."""
        return None if self.tls else f"http://{self.host}:{self.port}/metrics"


def choose_wildcard(address: str) -> str:
    """Return what to listen at so that requests to ``address`` arrive, and the agent's own questions too."""
    return "::" if ":" in address else "0.0.0.0"


def bracket_ipv6(address: str) -> str:
    """Return an address as it stands before ``:PORT``."""
    return f"[{address}]" if ":" in address else address
