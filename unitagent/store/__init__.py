"""The store: how agents see each other."""

from __future__ import annotations

from unitagent.late import put_off

# Of redis-py its connections are used, which is a third of its modules; and it asks for its own version late.
put_off("redis", "redis.asyncio", "importlib.metadata")
