"""The master port that was named ahead is taken if it is still free, with the ports above it."""

from __future__ import annotations

import socket

from unitagent.discovery.master_port import PORTS_ABOVE, find_master_port

HOST = "127.0.0.1"


def test_the_port_that_was_named_ahead_is_taken_while_it_is_free() -> None:
    wanted = find_master_port(HOST)
    assert find_master_port(HOST, (), wanted) == wanted
    with socket.socket() as held:
        held.bind((HOST, wanted + PORTS_ABOVE))
        assert find_master_port(HOST, (), wanted) != wanted


def test_a_port_near_one_in_use_is_not_taken() -> None:
    wanted = find_master_port(HOST)
    found = find_master_port(HOST, (wanted + PORTS_ABOVE,), wanted)
    assert abs(found - wanted - PORTS_ABOVE) > PORTS_ABOVE
