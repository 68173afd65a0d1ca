"""Where an agent listens: what it takes, and what is done where the kernel lacks a family."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from unitagent.errors import ConfigurationError
from unitagent.system.addresses import bind_tcp, refuse_unreachable_listener
from unitagent.system.host_port import join_host_port


@pytest.mark.parametrize("missing", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    class Kernel(socket.socket):
        def bind(self, address: Any, /) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(missing, "no IPv6 here")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Kernel)
    with bind_tcp("::", 0) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="no IPv6 here"):
        bind_tcp("::1", 0)


def test_all_addresses_are_of_both_families() -> None:
    with bind_tcp("::", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 5).close()


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("::", "10.0.0.1"), ("::", "fd00::1"), ("[::]", "fd00::1"), ("0.0.0.0", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"), ("fd00:0::1", "fd00::1"), ("localhost", "127.0.0.1"),
        ("no..host", "10.0.0.1"),
    ],
)  # fmt: skip
def test_who_asks_there_is_heard(host: str, ip: str) -> None:
    refuse_unreachable_listener(host, 9470, ip)


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("127.0.0.1", "10.0.0.1"), ("10.0.0.2", "10.0.0.1"), ("0.0.0.0", "fd00::1"), ("::1", "fd00::1"),
        ("fd00::1", "10.0.0.1"), ("localhost", "10.0.0.1"),
    ],
)  # fmt: skip
def test_who_asks_elsewhere_is_not(host: str, ip: str) -> None:
    with pytest.raises(ConfigurationError, match="UNIT_HTTP_ADDRESS=") as error:
        refuse_unreachable_listener(host, 9470, ip)
    assert join_host_port(ip, 9470) in str(error.value)
