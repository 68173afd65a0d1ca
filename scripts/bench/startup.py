"""How long the commands that run most often take, compared: an agent from its start to its workload's start,
in a Unit of one with the embedded store; a whole such job; a health check; the version.

    scripts/bench/startup.py .venv/bin/unitagent /opt/unitagent/unitagent

The programs take turns, so that a busy moment of the machine meets all of them. CPU is of the agent itself up
to its workload's start, or of a whole command; another load on the machine changes it less than the time.
"""

from __future__ import annotations

import http.server
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

TURNS = 15
CARD = ["--comm-ifname", "lo", "--http-address", "127.0.0.1:19470", "--log-level", "error"]
JOB = ["run", "--unit", "startup", "--size", "1", "--rank", "0", "--mode", "job", *CARD, "--"]
# Says when it was started, and how many nanoseconds of CPU each thread of the agent had taken by then.
WORKLOAD = ["bash", "-c", "echo $EPOCHREALTIME $(cut -d ' ' -f 1 /proc/$PPID/task/*/schedstat)"]
ENVIRONMENT = {
    name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "UNIT_", "RANK"))
}

Cost = tuple[float, float]  # seconds, and seconds of CPU


def started(program: str) -> Cost:
    """From the start of an agent to its workload's."""
    begun = time.time()
    argv = [program, *JOB, *WORKLOAD]
    done = subprocess.run(argv, check=True, env=ENVIRONMENT, capture_output=True, text=True)
    at, *threads = done.stdout.split()
    return float(at) - begun, sum(map(int, threads)) / 1e9


def ended(program: str, *words: str) -> Cost:
    """From the start of a command to its end."""
    before, begun = _cpu(), time.perf_counter()
    subprocess.run([program, *words], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Yes(http.server.BaseHTTPRequestHandler):
    """Answers as a healthy agent would."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"yes\n")

    def log_message(self, *_: object) -> None: ...


def compare(programs: Sequence[str], what: Mapping[str, Callable[[str], Cost]]) -> None:
    for name, measure in what.items():
        taken: dict[str, list[Cost]] = {program: [] for program in programs}
        for _ in range(TURNS):
            for program in programs:
                taken[program].append(measure(program))
        for program, each in taken.items():
            seconds, cpu = (statistics.median(column) * 1000 for column in zip(*each, strict=True))
            print(f"{name:26} {seconds:6.0f} ms, {cpu:6.0f} ms of CPU  {program} (medians of {TURNS})")


def main(programs: Sequence[str]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        probe = ("probe", "live", "--address", f"127.0.0.1:{server.server_port}")
        compare(
            programs,
            {
                "run, to its workload": started,
                "run, a whole job": lambda program: ended(program, *JOB, "true"),
                "probe live": lambda program: ended(program, *probe),
                "--version": lambda program: ended(program, "--version"),
            },
        )
        server.shutdown()


main(sys.argv[1:])
