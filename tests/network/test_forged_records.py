"""Whatever is written in the store, a Unit that serves goes on and can still recover."""

from __future__ import annotations

import json

from tests.network.lab import Lab
from tests.waiting import throughout

BOARD = "unitagent:{lab}:board"
LAST = 2**53 - 1  # the largest whole number that a store counts to


def test_the_last_generation_of_all(lab: Lab) -> None:
    lab.form()
    client = lab.store.client
    shown = json.loads(client.hget(BOARD, "r1") or "")
    client.hset(BOARD, "generation", LAST)
    client.hset(BOARD, "r1", json.dumps(shown | {"generation": LAST}))
    throughout(lab.serving, "the Unit was disturbed", 3.0, pause=0.2)
    lab.strike(2)
    assert lab.wait_ready(above=1)["generation"] == 2
    lab.until(lambda: client.hget(BOARD, "generation") == b"2", "the agents put the store right")


def test_the_name_of_a_holder_that_never_was(lab: Lab) -> None:
    lab.form()
    lab.store.client.hset(BOARD, "h0", "nan")
    throughout(lab.serving, "the Unit was disturbed", 3.0, pause=0.2)
