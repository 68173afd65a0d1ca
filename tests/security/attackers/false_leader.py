"""Write rank 0 of a Unit of two, with write access to its store: ``false_leader.py URL UNIT IP PORT``.

Follows the barrier as an agent would: stands where rank 1 stands, and confirms the gang that it confirms.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

import redis

URL, UNIT, IP, PORT = sys.argv[1:]
NAME, MASTER_PORT = "f00df00df00df00d", 29500
board, changes = f"unitagent:{{{UNIT}}}:board", f"unitagent:{{{UNIT}}}:changes"


def leader(victim: dict[str, Any]) -> dict[str, Any]:
    roster = hashlib.sha256(f"{NAME},{victim['incarnation']}".encode()).hexdigest()[:32]
    up = victim["state"] not in {"waiting", "idle"}
    mine = {"rank": 0, "incarnation": NAME, "ip": IP, "port": int(PORT), "master_port": MASTER_PORT}
    gang = f"{victim['generation']}:{MASTER_PORT}:{roster}"
    return victim | mine | {"hostname": "leader", "gang": gang, "state": "healthy" if up else "idle"}


store, beats = redis.Redis.from_url(URL), 0
while True:
    beats += 1
    now = time.time_ns() // 1000
    shown = store.hget(board, "r1")
    store.hset(board, mapping={"h0": NAME, "b0": f"{NAME} {beats} {now // 1000}", "version": now})
    if isinstance(shown, bytes):
        store.hset(board, "r0", json.dumps(leader(json.loads(shown))))
    store.zadd(changes, {"0": now})
    store.publish(f"unitagent:{{{UNIT}}}:look", "look")
    if beats == 1:
        print("ready", flush=True)  # noqa: T201 - the test waits for it
    time.sleep(0.05)
