"""A workload that takes requests and cares for none: each streams for a while, and SIGTERM cuts all of them.

    engine.py HOST PORT

``GET /SECONDS`` answers a piece every 50 ms for so long, ``GET /`` one piece. Ranks above 0 only stay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

PIECE = 0.05  # seconds
WHO = f"{os.environ['UNIT_ID']} {os.environ.get('REVISION', '')}"


async def serve(host: str, port: int) -> None:
    async with await asyncio.start_server(connection, host, port, backlog=1024) as server:
        await server.serve_forever()


async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await answer(head.split(b" ")[1].decode().lstrip("/"), writer)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def answer(path: str, writer: asyncio.StreamWriter) -> None:
    seconds = float(path or 0)
    writer.write(f"HTTP/1.1 200 OK\r\nX-Unit: {WHO}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(max(1, round(seconds / PIECE))):
        writer.write(b"6\r\ntoken \r\n")
        await writer.drain()
        await asyncio.sleep(PIECE if seconds else 0)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


if os.environ["RANK_ID"] == "0":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
else:
    signal.pause()
