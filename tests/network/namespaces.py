"""Network namespaces that live as long as this process holds them: nothing to clean up, whatever happens.

A namespace is an open file descriptor. When the process ends, even by SIGKILL, the kernel takes the
namespaces down with all their interfaces.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from socket import AF_INET, SOCK_STREAM, socket
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace."""

    def __init__(self) -> None:
        self._fd = _in_a_thread(_made)

    @property
    def path(self) -> str:
        """Where other processes can open it while this one lives."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def enter(self) -> list[str]:
        """The words to put before a command that is to run inside."""
        return ["nsenter", f"--net={self.path}", "--"]

    def ip(self, *commands: str) -> None:
        """Run commands of ``ip``, all in one process."""
        self._batch("ip", commands)

    def tc(self, *commands: str) -> None:
        """Run commands of ``tc``."""
        self._batch("tc", commands)

    def connection(self, family: int = AF_INET) -> socket:
        """A TCP socket, not connected, that stays inside whoever uses it."""
        return _in_a_thread(lambda: self._socket(family))

    def close(self) -> None:
        os.close(self._fd)

    def _batch(self, program: str, commands: tuple[str, ...]) -> None:
        words = [*self.enter(), program, "-batch", "-"]
        done = subprocess.run(words, input="\n".join(commands), text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{program} {commands}: {done.stderr}"

    def _socket(self, family: int) -> socket:
        _checked(_libc.setns(self._fd, _CLONE_NEWNET))
        return socket(family, SOCK_STREAM)


def _made() -> int:
    _checked(_libc.unshare(_CLONE_NEWNET))
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_a_thread(work: Callable[[], T]) -> T:
    """Run where a change of namespace hurts nobody: namespaces belong to threads."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    assert found, "the namespace could not be made or entered"
    return found[0]
