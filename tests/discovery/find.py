"""Run the finder in whatever network namespace this process was started in, and print what it found."""

from __future__ import annotations

import asyncio
import json
import sys

from unitagent.discovery.network import find_instance_address
from unitagent.errors import ConfigurationError


async def main(ifname: str, rank_ip: str, wait: str) -> None:
    def on_wait(message: str) -> None:
        say({"waiting": message})

    try:
        found = await find_instance_address(ifname or None, rank_ip or None, float(wait), on_wait)
    except ConfigurationError as error:
        say({"error": str(error)})
    else:
        say({"found": [found.ifname, found.ip, found.family.name], "netlink": imported()})


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def imported() -> bool:
    return any(name.startswith("pyroute2") for name in sys.modules)


asyncio.run(main(*sys.argv[1:]))
