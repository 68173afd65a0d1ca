"""From exec to the workload's exec in a Unit of one, and the commands that run most often.

The embedded store included, against torchrun with its own, against Python that does nothing but start the
worker, and against the worker alone. Then `unitagent probe live` and `unitagent --version`, from exec to
their end. CPU is of the launcher with what it has started for itself. All take turns, so that a busy moment
of the machine meets all of them.

    scripts/bench/startup.py [OTHER/unitagent ...]    # compares other installations of the agent as well
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import figures
import launchers
import processes

EXEC = "import os, sys; os.execv('/bin/sh', sys.argv[1:])"  # runs nothing but the worker
COLUMNS = {"seconds": "s", "CPU": "s", "memory (PSS)": "MiB", "with its store (PSS)": "MiB"}
SETTLED = 2.0  # seconds after which memory is read


def main() -> int:
    options = figures.parser(__doc__)
    options.add_argument("programs", nargs="*", help="other installations of the agent")
    options.add_argument("--rounds", type=int, help="of each (default 15; --quick: 3)")
    chosen = options.parse_args()
    programs = [launchers.UNITAGENT, *chosen.programs]
    table = figures.Table(
        "Start-up: from exec to the workload's exec, or to a command's end", "what", COLUMNS
    )
    with _healthy_agent() as port:
        probe = ("probe", "live", "--address", f"127.0.0.1:{port}")
        for number in range(chosen.rounds or (3 if chosen.quick else 15)):
            figures.progress(f"startup: round {number + 1}")
            for name, launch in _launches(chosen.programs).items():
                _start(table, name, launch)
            for program in programs:
                _run(table, f"{_name(program)} probe live", [program, *probe])
                _run(table, f"{_name(program)} --version", [program, "--version"])
    figures.publish(chosen, startup=table)
    return 0


def _launches(programs: list[str]) -> dict[str, launchers.Launch]:
    agents: dict[str, launchers.Launch] = {"unitagent": launchers.unitagent}
    agents |= {_name(program): partial(launchers.unitagent, program=program) for program in programs}
    python = [sys.executable, "-c", EXEC]
    floors: dict[str, launchers.Launch] = {
        "python": partial(_alone, python),
        "the worker alone": partial(_alone, []),
    }
    return agents | launchers.peers() | floors


def _name(program: str) -> str:
    return "unitagent" if program == launchers.UNITAGENT else program


def _alone(starter: list[str], _size: int, log: Path) -> launchers.Group:
    return launchers.Group([[*starter, *launchers.WORKER, str(log)]], log, {}, bare=True)


def _start(table: figures.Table, name: str, launch: launchers.Launch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        group = launch(1, Path(folder) / "log")
        try:
            worker = group.started(1)[0]
            table.add(name, "seconds", worker.at - group.begun)
            launcher = group.launchers[0].pid
            if launcher != worker.pid:
                _weigh(table, name, launcher, worker.pid)
        finally:
            group.stop()


def _weigh(table: figures.Table, name: str, launcher: int, worker: int) -> None:
    everyone = [launcher, *(pid for pid in processes.descendants(launcher) if pid != worker)]
    table.add(name, "CPU", sum(map(processes.cpu, everyone)))
    time.sleep(SETTLED)
    table.add(name, "memory (PSS)", processes.pss(launcher))
    table.add(name, "with its store (PSS)", sum(map(processes.pss, everyone)))


def _run(table: figures.Table, name: str, argv: list[str]) -> None:
    before, begun = processes.cpu_of_ended(), time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    table.add(name, "seconds", time.perf_counter() - begun)
    table.add(name, "CPU", processes.cpu_of_ended() - before)


@contextmanager
def _healthy_agent() -> Iterator[int]:
    """Answer probes as an agent would whose Unit serves; gives the port."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class _Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"yes\n")

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    sys.exit(main())
