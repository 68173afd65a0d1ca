"""A steady stream of requests, and what became of each one. As a program it sends until SIGTERM, then tells:

    client.py HOST PORT

The invariant: requests start by the clock, not when earlier ones have ended; nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

KEPT = 0.5  # seconds; less than a balancer waits for the next request, or both may act at the same moment
SHORT, LONG = 0.1, 3.0  # seconds that a request takes; every tenth is long, above UNIT_DEREGISTER_SECONDS
LONGEST = 30.0  # seconds for any answer


@dataclass(slots=True)
class Result:
    """One request.

    Attributes:
        start: by the monotonic clock, as ``end`` is.
        unit: that began to answer; empty when none did.
        trouble: empty for one that was answered whole.

    """

    start: float
    end: float = 0.0
    unit: str = ""
    trouble: str = ""


@dataclass
class Client:
    """Sends ``rate`` requests a second, every other one on a connection that is kept for more."""

    port: int
    rate: float = 40.0
    host: str = "127.0.0.1"
    results: list[Result] = field(default_factory=list)
    _kept: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, and wait for all answers."""
        tasks = set()
        began = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
            if stop.is_set():
                break
            tasks.add(asyncio.create_task(self._talk(number)))
        await asyncio.gather(*tasks)
        for _, _, writer in self._kept:
            writer.close()

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if result.trouble]

    def answered_by(self, since: float = 0.0) -> dict[str, int]:
        """How many each Unit has answered of those that began ``since``."""
        found = [one.unit for one in self.results if not one.trouble and one.start >= since]
        return {unit: found.count(unit) for unit in sorted(set(found))}

    async def _request(self, number: int) -> None:
        result, keep = Result(time.monotonic()), number % 2 == 0
        try:
            async with asyncio.timeout(LONGEST):
                await self._ask(result, LONG if number % 10 == 0 else SHORT, keep=keep)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            result.trouble = f"{type(error).__name__}: {error}"
        result.end = time.monotonic()
        self.results.append(result)

    async def _talk(self, number: int) -> None:
        """One request; who waited for a long answer on a connection that is kept asks on."""
        await self._request(number)
        if number % 10 == 0:
            await self._request(number + 2)

    async def _ask(self, result: Result, seconds: float, *, keep: bool) -> None:
        reader, writer = (keep and self._reuse()) or await asyncio.open_connection(self.host, self.port)
        whole = False
        try:
            closing = "" if keep else "Connection: close\r\n"
            writer.write(f"GET /{seconds} HTTP/1.1\r\nHost: units\r\n{closing}\r\n".encode())
            headers = await _head(reader)
            result.unit = headers["x-unit"].split()[0]
            await _body(reader, headers)
            whole = headers.get("connection", "") != "close"
        finally:
            if keep and whole:
                self._kept.append((time.monotonic(), reader, writer))
            else:
                writer.close()

    def _reuse(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection that was used last, if it is young enough and still open."""
        while self._kept:
            since, reader, writer = self._kept.pop()
            if time.monotonic() - since < KEPT and not reader.at_eof():
                return reader, writer
            writer.close()
        return None


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read the headers of an answer, which has to be a good one."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    if status.split()[1] != "200":
        raise ValueError(status)
    return dict(_headers(lines))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if "transfer-encoding" in headers:
        while size := int((await reader.readuntil(b"\r\n")), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    else:
        await reader.readexactly(int(headers["content-length"]))


def _headers(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name.lower(), value.strip()


async def main(host: str, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = Client(port, host=host)
    await client.run(stop)
    failed = [one.trouble for one in client.failed]
    print(json.dumps({"requests": len(client.results), "failed": failed, "answered": client.answered_by()}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
