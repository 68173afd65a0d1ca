"""Whatever happens to the store, serving goes on; what happened meanwhile is acted on when it is back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.network.lab import Lab
from tests.waiting import throughout

SLOW = pytest.mark.slow
BOARD = "unitagent:{lab}:board"


@dataclass(frozen=True)
class Trouble:
    """Something that happens to a store for ``seconds``."""

    begin: Callable[[Lab], object]
    end: Callable[[Lab], object] = lambda _: None
    seconds: float = 2.0


def _garbage(lab: Lab) -> None:
    client = lab.store.client
    keys = list(client.scan_iter("unitagent:*"))
    assert keys
    for key in keys:
        client.delete(key)
        client.set(key, "garbage")


def _garbled(lab: Lab) -> None:
    """Right types, wrong contents."""
    client = lab.store.client
    for key in client.scan_iter("unitagent:*", _type="hash"):
        for field in client.hkeys(key):
            client.hset(key, field, b"\xff garbage \x00")


def _lag(delay: float) -> Callable[[Lab], None]:
    return lambda lab: lab.net.impair(delay, 0.0, ["front"])


TROUBLES = {
    "FLUSHALL": Trouble(lambda lab: lab.store.client.flushall()),
    "connections killed": Trouble(lambda lab: lab.store.client.client_kill_filter(_type="normal")),
    "scripts flushed": Trouble(lambda lab: lab.store.client.script_flush()),
    "killed and restarted empty": Trouble(lambda lab: lab.store.restart()),
    "wrong types": Trouble(_garbage),
    "garbage": Trouble(_garbled),
    "out of memory": Trouble(
        lambda lab: lab.store.configure("maxmemory", 1), lambda lab: lab.store.configure("maxmemory", 0), 8.0
    ),
    "read-only": Trouble(
        lambda lab: lab.store.client.replicaof("127.0.0.1", "1"),
        lambda lab: lab.store.client.replicaof("NO", "ONE"),
        8.0,
    ),
    "no room for clients": Trouble(lambda lab: lab.store.crowd(), lambda lab: lab.store.make_room(), 8.0),
    "stopped": Trouble(lambda lab: lab.store.stop(), lambda lab: lab.store.start(), 20.0),
    "frozen": Trouble(lambda lab: lab.store.freeze(), lambda lab: lab.store.thaw(), 30.0),
    "100 ms away": Trouble(_lag(0.1), lambda lab: lab.net.repair(), 10.0),
    "2 s away": Trouble(_lag(2.0), lambda lab: lab.net.repair(), 15.0),
    "stopped for a minute": Trouble(lambda lab: lab.store.stop(), lambda lab: lab.store.start(), 60.0),
}  # fmt: skip
QUICK = ("FLUSHALL", "killed and restarted empty")
LATER = 7.0  # seconds to look on, longer than a lease: what was forgotten would be missed by then
CASES = [pytest.param(name, marks=() if name in QUICK else SLOW) for name in TROUBLES]


@pytest.mark.parametrize("name", CASES)
def test_serving_goes_on_and_a_later_crash_is_acted_on(lab: Lab, name: str) -> None:
    trouble = TROUBLES[name]
    lab.form()
    trouble.begin(lab)
    throughout(lab.serving, f"{name}: the Unit stopped serving", trouble.seconds, pause=0.2)
    trouble.end(lab)
    throughout(lab.serving, f"after {name}: the Unit stopped serving", LATER, pause=0.2)
    assert lab.generations() == [1]
    lab.strike(2)
    lab.wait_ready(above=1)
    assert lab.agents[0].status()["failure"]["rank"] == 2


@SLOW
@pytest.mark.parametrize("name", ["stopped", "frozen", "out of memory", "read-only", "2 s away"])
def test_a_crash_meanwhile_is_acted_on_afterwards(lab: Lab, name: str) -> None:
    trouble = TROUBLES[name]
    lab.form()
    trouble.begin(lab)
    lab.until(lambda: not lab.agents[1].status()["store"]["connected"], "the outage is noticed")
    lab.strike(1)
    lab.until(lambda: not any(lab.agents[host].ready() for host in range(3)), "readiness is off everywhere")
    throughout(lambda: lab.generations() == [1], "something was started without the store", 2.0)
    trouble.end(lab)
    lab.wait_ready(above=1)


@SLOW
def test_a_container_rebuilt_while_the_store_is_away_joins_later(lab: Lab) -> None:
    lab.form()
    lab.store.stop()
    lab.agents[1].kill()
    lab.agents[1].code()
    lab.start(1)
    lab.until(lambda: not lab.agents[0].ready(), "readiness is off")
    lab.store.start()
    lab.wait_ready(above=1)
