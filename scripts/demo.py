"""The demonstration of ``demo.sh``: each step is observed, or it fails and says what it missed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unitagent.system import procfs

T = TypeVar("T")

SIZE = 3
VICTIM = 1
WORKLOAD = (
    'echo "rank $RANK_ID starts in generation $UNIT_GENERATION, rank 0 is $MASTER_ADDRESS"; exec sleep 1000'
)
UNITAGENT = str(Path(sys.executable).parent / "unitagent")
START, RECOVER, STOP = 60.0, 30.0, 40.0  # seconds, generous: a busy machine is no failure


class MissedError(Exception):
    """Something that should have been seen was not."""


class Unit:
    """One ``unitagent local``, its output in a file."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.address = f"127.0.0.1:{free_port()}"
        self.argv = ["local", "--size", str(SIZE), "--guard", "--", "sh", "-c", WORKLOAD]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("UNIT_")}
        with output.open("wb") as file:
            self.popen = subprocess.Popen(
                [UNITAGENT, *self.argv],
                env=kept | {"UNIT_ID": "demo", "UNIT_HTTP_ADDRESS": self.address},
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip
        self.processes: dict[tuple[int, int], procfs.Process] = {}

    def status(self, *options: str) -> str:
        argv = [UNITAGENT, "status", "--unit", "demo", "--http-address", self.address, *options]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        ).stdout

    def look(self) -> dict[str, Any]:
        """The status as an object, empty as long as nobody answers; remembers every process there is."""
        if self.popen.poll() is not None:
            raise MissedError(f"unitagent local ended with code {self.popen.returncode}")
        self._remember()
        text = self.status("--json")
        return json.loads(text) if text else {}

    def ready(self, after: int = 0) -> dict[str, Any]:
        """The status once the Unit serves in a generation later than ``after``."""
        seen = self.look()
        return seen if seen.get("ready") and seen["generation"] > after else {}

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        self.popen.send_signal(signal.SIGINT)
        try:
            return self.popen.wait(STOP)
        except subprocess.TimeoutExpired:
            raise MissedError(f"the Unit did not end within {STOP:.0f} s of SIGINT") from None

    def _remember(self) -> None:
        table = procfs.read_process_table()
        for process in [table[self.popen.pid], *procfs.select_descendants(table, self.popen.pid)]:
            self.processes[process.ticks, process.pid] = process

    def left(self) -> list[procfs.Process]:
        """Every process of the Unit, of any generation, that still runs."""
        now = [procfs.read_process(process.pid) for process in self.processes.values()]
        return [one for one in now if one and one.alive and (one.ticks, one.pid) in self.processes]

    def close(self) -> None:
        """Whatever happened: nothing of ours stays."""
        if self.popen.poll() is None:
            self._remember()
        for process in self.left():
            procfs.kill_process(process)


def free_port() -> int:
    """A port of 127.0.0.1 that is free, as is the one above it, where the embedded store goes.

    From below the range out of which the kernel takes ports for connections, so that it stays free.
    """
    while True:
        port = random.randrange(12000, 22000, 2)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def wait(look: Callable[[], T], seconds: float, what: str) -> T:
    """The first true answer of ``look``."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise MissedError(f"not seen within {seconds:.0f} s: {what}")
        time.sleep(0.05)
    return found


def title(word: str, text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}{word:<8}{plain} {text}", flush=True)


def show(text: str) -> None:
    print(textwrap.indent(text, " " * 9), flush=True)


def form(unit: Unit) -> dict[str, Any]:
    begun = time.monotonic()
    title("start", f"unitagent {' '.join(unit.argv[:-3])} sh -c '…; exec sleep 1000'")
    seen = wait(unit.ready, START, "the Unit is ready")
    show(f"all {SIZE} instances met at the barrier; ready after {time.monotonic() - begun:.1f} s\n")
    show("$ unitagent status\n" + unit.status().rstrip())
    return seen


def recover(unit: Unit, before: dict[str, Any]) -> None:
    victim = before["instances"][VICTIM]["pid"]
    title("fault", f"kill -9 {victim}   (the workload of rank {VICTIM})")
    os.kill(victim, signal.SIGKILL)
    after = wait(lambda: unit.ready(before["generation"]), RECOVER, "the Unit is ready in a new generation")
    if after["generation"] != before["generation"] + 1:
        raise MissedError(f"one new generation: {before['generation']} was followed by {after['generation']}")
    old, new = ([one["pid"] for one in seen["instances"]] for seen in (before, after))
    if set(old) & set(new) or any(map(procfs.read_process, old)):
        raise MissedError(f"every workload is a new one: pids {old} before, {new} after")
    show("every rank has a new process:")
    show(
        "\n".join(
            f"  rank {rank}: {was} -> {now}" for rank, (was, now) in enumerate(zip(old, new, strict=True))
        )
        + "\n"
    )
    show("$ unitagent status\n" + unit.status().rstrip())
    title("time", recovery(after["recovery"]))


def recovery(spans: dict[str, float | None]) -> str:
    if spans["total"] is None:
        raise MissedError(f"the times of the recovery: {spans}")
    steps = ", ".join(f"{name} {span or 0:.3f}" for name, span in spans.items() if name != "total")
    return f"recovered in {spans['total']:.3f} s ({steps})"


def finish(unit: Unit) -> None:
    title("stop", "Ctrl-C")
    if code := unit.stop():
        raise MissedError(f"the Unit ended with code {code}, not 0")
    wait(lambda: not unit.left(), 5, "no process of the Unit is left")
    show("exit code 0, no process left")


def main() -> int:
    print(f"unitagent: one Unit of {SIZE} instances, each with its own address on this machine")
    with tempfile.TemporaryDirectory(prefix="unitagent-demo-") as folder:
        unit = Unit(Path(folder) / "output")
        try:
            recover(unit, form(unit))
            finish(unit)
        except MissedError as missed:
            title("FAILED", str(missed))
            show("the last lines of its output:\n" + "\n".join(unit.output.read_text().splitlines()[-15:]))
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            unit.close()
    print("\nEach of these steps was observed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
