"""An agent of one, as far as the probe address can tell, and raw clients of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitagent.core.model import Record
from unitagent.core.probe_answers import ProbeAnswer, ProbeCheck
from unitagent.probes.server import ProbeServer
from unitagent.probes.unit_list import UnitAnswers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from unitagent.core.probe_paths import Probe
    from unitagent.probes.answers import ProcessFields
    from unitagent.probes.unit_list import UnitSource
    from unitagent.system.keyring import Keyring

HOST = "127.0.0.1"
GOOD = ProbeAnswer(200, (ProbeCheck("workload", ok=True), ProbeCheck("leases", ok=True)))
BAD = ProbeAnswer(
    503, (ProbeCheck("workload", ok=True), ProbeCheck("leases", ok=False, reason="rank 2 is\nlost"))
)


def instance(**changes: object) -> dict[str, Any]:
    return {
        "rank": 1,
        "incarnation": "abc",
        "ip": HOST,
        "hostname": "box",
        "state": "running",
        "generation": 7,
        "pid": 42,
        "exit_code": None,
        "lease_seconds": 0.5,
        **changes,
    }


def status(**changes: object) -> dict[str, Any]:
    return {
        "unit": "u",
        "size": 2,
        "guard": True,
        "phase": "running",
        "generation": 7,
        "restarts": 1,
        "master_address": HOST,
        "master_port": 29500,
        "ready": True,
        "traffic": False,
        "draining": False,
        "failure": None,
        "store": {"connected": True, "since": 1.0},
        "instances": [instance(rank=0, incarnation="zero", state="healthy"), instance()],
        "recovery": dict.fromkeys(("detect", "stop", "barrier", "start", "ready", "total")),
        **changes,
    }


@dataclass
class FakeAnswers:
    """Says what it is told to say."""

    probes: dict[str, ProbeAnswer] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=status)
    who: tuple[int, str] = (1, "abc")
    unit: str = "u"
    page: str = "unit"
    samples: int = 0
    written: bytes = b""
    read_after: list[int] = field(default_factory=list)

    async def list_processes(self) -> Sequence[ProcessFields]:
        self.samples += 1
        await asyncio.sleep(0.05)
        return [{"pid": 42, "name": "sh"}]

    def read_output(self, after: int) -> dict[str, Any]:
        self.read_after.append(after)
        parts = [{"generation": 7, "data": self.written}] if self.written else []
        return {"streams": ["stdout", "stderr"], "begin": after, "end": after + len(self.written),
                "more": False, "parts": parts}  # fmt: skip

    def answer_probe(self, probe: Probe) -> ProbeAnswer:
        return self.probes.get(probe.word, GOOD)

    def build_status(self) -> dict[str, Any]:
        return self.shown

    def report_instance(self) -> dict[str, Any]:
        mine = [one for one in self.shown["instances"] if one["rank"] == self.who[0]]
        return {"unit": self.unit, "generation": self.shown["generation"], "instances": mine}

    def is_ready(self) -> bool:
        return bool(self.shown["ready"])

    def render_metrics(self, processes: Sequence[ProcessFields] | None) -> bytes:
        return b"" if processes is None else f"unitagent_workload_processes {len(processes)}.0\n".encode()

    def get_identity(self) -> tuple[str, int, str]:
        return self.unit, *self.who

    def list_addresses(self) -> set[str]:
        return {one["ip"] for one in self.shown["instances"]}

    def get_dashboard(self) -> str:
        return self.page


@asynccontextmanager
async def serving(
    answers: FakeAnswers | None = None,
    keys: Keyring | None = None,
    units: UnitSource | None = None,
    *,
    every_unit: bool = True,
) -> AsyncIterator[int]:
    shown = UnitAnswers(lambda: units, every_unit=every_unit) if units else None
    server = ProbeServer(answers or FakeAnswers(), keys, shown)
    port = await server.start(HOST, 0)
    try:
        yield port
    finally:
        await server.stop()


@asynccontextmanager
async def saying(answer: bytes | Callable[[], bytes], *, close: bool = True) -> AsyncIterator[int]:
    """Serve these bytes to whoever asks something, the same every time or made anew."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            writer.write(answer if isinstance(answer, bytes) else answer())
            await writer.drain()
            if not close:
                await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@dataclass(frozen=True)
class Told:
    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def say(port: int, data: bytes, host: str = HOST) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def ask(port: int, target: str, *headers: str, method: str = "GET", host: str = HOST) -> Told:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    head, _, body = (await say(port, "\r\n".join(lines).encode(), host)).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in rest)
    return Told(int(first.split()[1]), fields, body)


def record(port: int, /, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "rank": 1,
        "incarnation": "abc",
        "size": 2,
        "ip": HOST,
        "port": port,
        "generation": 7,
    }
    return Record(**(fields | changes))
