"""Put an old record of rank 0 back, again and again, with beats that grow: ``parrot.py URL UNIT RECORD``."""

from __future__ import annotations

import json
import sys
import time

import redis

URL, UNIT, RECORD = sys.argv[1:]
board, changes = f"unitagent:{{{UNIT}}}:board", f"unitagent:{{{UNIT}}}:changes"
name = json.loads(RECORD)["incarnation"]
store, beats = redis.Redis.from_url(URL), 1000
while True:
    beats += 1
    now = time.time_ns() // 1000
    beat = f"{name} {beats} {now // 1000}"
    store.hset(board, mapping={"r0": RECORD, "h0": name, "b0": beat, "version": now})
    store.zadd(changes, {"0": now})
    if beats == 1001:
        print("ready", flush=True)  # noqa: T201 - the test waits for it
    time.sleep(0.1)
