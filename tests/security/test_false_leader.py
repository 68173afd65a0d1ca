"""Somebody writes rank 0 of a Unit into its store: nobody runs what it says, or goes where it says."""

from __future__ import annotations

import json
import socket

import pytest

from tests.security.victims import SECRET, UNIT, MakeVictim, attacking, server, victim
from tests.servers import Server
from tests.waiting import until

__all__ = ["server", "victim"]

ELSEWHERE = "127.0.0.66"


def test_the_attack_works_where_nothing_is_proven(server: Server, victim: MakeVictim) -> None:
    """Without a secret, and without probes: else the tests below would show nothing."""
    with attacking("false_leader", server.url, UNIT, ELSEWHERE, "0"):
        one = victim(1, UNIT_HTTP_ADDRESS="off")
        until(lambda: one.met, "the workload starts")
    assert one.met == f"met {ELSEWHERE}\n"


@pytest.mark.parametrize("secret", ["", SECRET])
@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("ip", ("$(touch pwned)", "0")),
        ("ip", ("127.0.0.1;touch pwned", "0")),
        ("ip", ("fe80::1%$(touch pwned)", "0")),
        ("ip", ("0.0.0.0", "9470")),
        ("port", (ELSEWHERE, "0")),
    ],
)
def test_what_no_record_of_ours_says_is_ignored_and_told(
    server: Server, victim: MakeVictim, field: str, place: tuple[str, str], secret: str
) -> None:
    with attacking("false_leader", server.url, UNIT, *place):
        one = victim(1, UNIT_SECRET=secret)
        until(lambda: one.met or "waiting for" in one.output, "it starts, or waits at the barrier")
    assert not one.met
    assert not list(one.folder.glob("pwned*"))
    told = "is not signed with this UNIT_SECRET" if secret else f"has no possible {field}"
    assert one.output.count(f"the record of rank 0 in the store {told}; ignored it") == 1
    assert one.popen.poll() is None


@pytest.mark.parametrize("probes", ["", "off"])
def test_who_has_no_secret_leads_nobody(server: Server, victim: MakeVictim, probes: str) -> None:
    """With a plain address, and a port there that only accepts."""
    off = {"UNIT_HTTP_ADDRESS": "off"} if probes else {}
    with socket.create_server((ELSEWHERE, 0)) as mute:
        port = 0 if probes else mute.getsockname()[1]
        with attacking("false_leader", server.url, UNIT, ELSEWHERE, str(port)):
            one = victim(1, UNIT_SECRET=SECRET, **off)
            sentence = "rank 0 has another UNIT_SECRET than rank 1; all ranks need the same"
            until(lambda: one.met or sentence in one.output, "it starts, or says why not")
            assert not one.met
            shown = json.loads(one.run("status", "--json", "--unit", UNIT).stdout)
    assert shown["master_address"] is None
    assert [one["ip"] for one in shown["instances"]] == [None, "127.0.0.2"]


def test_an_old_record_of_a_dead_leader_leads_nobody(server: Server, victim: MakeVictim) -> None:
    """It is signed, and confirms a gang: but none with whoever was rebuilt since. No probe is asked."""
    off = {"UNIT_HTTP_ADDRESS": "off", "UNIT_SECRET": SECRET}
    leader, other = victim(0, **off), victim(1, **off)
    until(lambda: leader.met and other.met, "the Unit runs")
    raw = server.command("HGET", f"unitagent:{{{UNIT}}}:board", "r0").split(b"\r\n")[1].decode()
    assert json.loads(raw)["gang"]
    leader.close()
    other.close()
    with attacking("parrot", server.url, UNIT, raw):
        again = victim(1, **off)
        until(lambda: again.met or "waiting for" in again.output, "it starts, or waits at the barrier")
        assert not again.met
