"""The launchers that the benchmarks compare, started alike: N of them on 127.0.0.x, one worker under each.

The worker is a shell script that writes down its start and sleeps, so that launchers are measured and not an
interpreter's start.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNITAGENT = str(Path(sys.executable).parent / "unitagent")
TORCHRUN = str(ROOT / ".venv-frameworks" / "bin" / "torchrun")
FT_LAUNCHER = str(ROOT / ".venv-frameworks" / "bin" / "ft_launcher")
ADDRESSES = [f"127.0.{number // 200}.{number % 200 + 1}" for number in range(1024)]

PATIENCE = 180.0  # seconds for anything to happen

WORKER = ["sh", str(Path(__file__).with_name("worker.sh"))]


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a worker: seconds since the epoch, its rank, its pid."""

    at: float
    rank: int
    pid: int


class Group:
    """Launchers that run one job together.

    Args:
        bare: these are no launchers but workers, which know their ranks from here, and end with their groups.

    Attributes:
        begun: seconds since the epoch when the first launcher was started.

    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        log: Path,
        settings: dict[str, str],
        *,
        bare: bool = False,
    ) -> None:
        self._log = log
        self._kill = os.killpg if bare else os.kill
        log.touch()
        output = log.with_suffix(".output").open("wb")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("UNIT_", "RANK"))}
        self.begun = time.time()
        self.launchers = [
            subprocess.Popen(
                argv, env=kept | settings | ({"RANK_ID": str(rank)} if bare else {}), process_group=0,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )
            for rank, argv in enumerate(commands)
        ]  # fmt: skip
        output.close()

    def starts(self, after: float = 0.0) -> list[Start]:
        """Every start of a worker later than ``after``."""
        rows = [line.split() for line in self._log.read_text().splitlines()]
        found = [Start(float(at), int(rank), int(pid)) for at, rank, pid in rows]
        return [start for start in found if start.at > after]

    def started(self, count: int, after: float = 0.0) -> list[Start]:
        """Wait for the starts of ``count`` different ranks; the last one of each."""
        deadline = time.monotonic() + PATIENCE
        while len(found := {start.rank: start for start in self.starts(after)}) < count:
            if time.monotonic() > deadline or any(launcher.poll() is not None for launcher in self.launchers):
                raise RuntimeError(f"only {len(found)} of {count} workers started; {self._tail()}")
            time.sleep(0.01)
        return [found[rank] for rank in sorted(found)]

    def stop(self) -> None:
        """End all, the polite way first."""
        for number, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
            for launcher in self.launchers:
                if launcher.poll() is None:
                    self._kill(launcher.pid, number)
            if self._ended(patience):
                break
        for pid in {start.pid for start in self.starts()}:
            self._kill_survivor(pid)

    def _ended(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while any(launcher.poll() is None for launcher in self.launchers):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _kill_survivor(self, pid: int) -> None:
        """Kill a worker that its launcher left behind; a pid that somebody else has by now is left alone."""
        try:
            ours = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\x00100000\x00")
        except OSError:
            return
        if ours:
            os.kill(pid, signal.SIGKILL)

    def _tail(self) -> str:
        return "\n".join(self._log.with_suffix(".output").read_text().splitlines()[-10:])


Launch = Callable[..., Group]  # of a size and the file that workers write to


def unitagent(size: int, log: Path, store: str = "", program: str = UNITAGENT) -> Group:
    """``size`` agents with the store at that URL, or the embedded one; no pause before a restart."""
    port = free_port()
    options = ["--guard", "--backoff-seconds", "0", "--max-restarts", "100000", "--log-format", "text"]
    options += ["--size", str(size), "--comm-ifname", "lo", "--master-address", ADDRESSES[0]]
    commands = []
    for rank, ip in enumerate(ADDRESSES[:size]):
        own = ["--rank", str(rank), "--rank-ip", ip, "--http-address", f"{ip}:{port}"]
        commands.append([program, "run", *options, *own, "--", *WORKER, str(log)])
    settings = {"UNIT_SECRET": "of a bench, not a secret", "UNIT_ID": "bench"}
    return Group(commands, log, settings | ({"UNIT_REDIS_URL": store} if store else {}))


def torchrun(size: int, log: Path) -> Group:
    """``size`` torchruns that meet by c10d at the first one; one worker each."""
    return _elastic([TORCHRUN], size, log)


def ft_launcher(size: int, log: Path) -> Group:
    """The same with the launcher of nvidia-resiliency-ext."""
    return _elastic([FT_LAUNCHER, "--ignore-missing-fault-tol-cfg"], size, log)


def _elastic(program: list[str], size: int, log: Path) -> Group:
    options = ["--nnodes", str(size), "--nproc-per-node", "1", "--max-restarts", "100000", "--no-python"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "bench"]
    commands = [
        [*program, *options, *meeting, "--local-addr", ip, *WORKER, str(log)] for ip in ADDRESSES[:size]
    ]
    return Group(commands, log, {"OMP_NUM_THREADS": "1"})


def peers() -> dict[str, Launch]:
    """The other launchers that are installed."""
    known = {"torchrun": (TORCHRUN, torchrun), "ft_launcher": (FT_LAUNCHER, ft_launcher)}
    missing = [name for name, (program, _) in known.items() if not Path(program).exists()]
    if missing:
        print(f"without {' and '.join(missing)}: see scripts/frameworks-venv.sh", file=sys.stderr)
    return {name: launch for name, (_, launch) in known.items() if name not in missing}


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
