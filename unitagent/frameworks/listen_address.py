"""The address at which an engine takes requests, read from its flags.

The invariant: an address is only returned if the flags determine it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unitagent.frameworks.command import UnreadableError
from unitagent.frameworks.flags import Flag
from unitagent.system.host_port import bracket_ipv6

_PORT = Flag("--port")
HOST = Flag("--host")
_TLS = Flag("--ssl-certfile", ("--ssl-keyfile", "--ssl"))
_ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1", "::": "[::1]"}


@dataclass(frozen=True, slots=True)
class ListenFlags:
    """The flags by which an engine chooses where to listen.

    Attributes:
        port: its default.
        elsewhere: flags with which it does not listen on a port.

    """

    port: int
    port_flag: Flag = _PORT
    host_flag: Flag = HOST
    elsewhere: tuple[Flag, ...] = ()

    def find_address(self, words: Sequence[str]) -> ListenAddress | None:
        """Return where it listens with these arguments; None if unknown."""
        try:
            return self._read_address(words)
        except UnreadableError:
            return None

    def read_port_text(self, words: Sequence[str]) -> str | None:
        """Return the port as these arguments have it, even an unknown one; None if they do not set it."""
        return self.port_flag.read_text(words)

    def _read_address(self, words: Sequence[str]) -> ListenAddress | None:
        stated = self.port_flag.read_value(words)
        port = self.port if stated is None else self.port_flag.read_number(words)
        if not port or any(flag.is_set(words) for flag in self.elsewhere):
            return None
        host = self.host_flag.read_value(words) or ""
        return ListenAddress(port, _ANY_ADDRESS.get(host, bracket_ipv6(host)), _TLS.is_set(words))


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A port, and its address for requests from the same container."""

    port: int
    host: str
    tls: bool

    @property
    def health_url(self) -> str:
        """The URL of a health check. With TLS the name could not be verified, so it only connects."""
        address = f"{self.host}:{self.port}"
        return f"tcp://{address}" if self.tls else f"http://{address}/health"

    def make_url(self, path: str) -> str:
        """Return the URL of a request."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{path}"

    @property
    def metrics_url(self) -> str | None:
        """The URL of its metrics; None with TLS."""
        return None if self.tls else f"http://{self.host}:{self.port}/metrics"


def choose_wildcard(address: str) -> str:
    """Return the wildcard address that accepts requests to ``address`` and the agent's own checks."""
    return "::" if ":" in address else "0.0.0.0"
