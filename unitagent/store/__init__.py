"""The store: how agents see each other."""

from __future__ import annotations

from unitagent.system.lazy_imports import defer_package_init

# Of redis-py its connections are used, which is a third of its modules; and it asks for its own version late.
defer_package_init("redis", "redis.asyncio", "importlib.metadata")
