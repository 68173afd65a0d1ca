"""Answer at an address with what is answered at another: ``relay.py PORT HOST PORT``."""

from __future__ import annotations

import asyncio
import sys

HERE, HOST, THERE = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    theirs, ours = await asyncio.open_connection(HOST, THERE)
    await asyncio.gather(pump(reader, ours), pump(theirs, writer))


async def main() -> None:
    server = await asyncio.start_server(relay, "0.0.0.0", HERE)  # in a namespace of the test
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    await server.serve_forever()


asyncio.run(main())
