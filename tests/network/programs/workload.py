"""A workload that notes what happens to it, one JSON line each, with the monotonic time.

The words of the command line are traits: ``ignores-term``, ``daemon``, ``shm``, ``exits=CODE``,
``after=SECONDS``, ``lingers=SECONDS`` (from SIGTERM to its end), ``until=PATH`` (waits for that file before
it exits), ``takes=PATH`` (the same, and takes that file away, so that one workload goes on), ``says=LINES``
(so many on stderr), ``eats`` (all memory there is, in the end), ``serves=PORT`` (answers 200 over HTTP, and
500 while the file of ``sick=PATH`` exists), ``loses=PATH`` (once that file is there, a child is killed that
nobody reaps), ``only=RANK`` (the traits after it are that rank's alone). On SIGUSR1 it exits with 0 at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


def note(event: str, **more: object) -> None:
    where = Path(os.environ["LAB_EVENTS"]) / f"{os.environ['LAB_HOST']}.jsonl"
    line = {"event": event, "at": time.monotonic(), "pid": os.getpid(), **more}
    line |= {"rank": int(os.environ["RANK_ID"]), "generation": int(os.environ["UNIT_GENERATION"])}
    with where.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_traits(words: list[str]) -> dict[str, str]:
    traits: dict[str, str] = {}
    mine = True
    for word in words:
        name, _, value = word.partition("=")
        if name == "only":
            mine = value == os.environ["RANK_ID"]
        elif mine:
            traits[name] = value
    return traits


def on_term(traits: dict[str, str]) -> Callable[..., None]:
    def handle(number: int, _frame: object) -> None:
        note("term", signal=number)
        time.sleep(float(traits.get("lingers", 0)))
        note("end")
        os._exit(0)

    return handle


def leave_daemon() -> None:
    """A child that left session and group and ignores SIGTERM, as engines leave them behind."""
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    note("daemon")
    while True:
        time.sleep(60)


def serve(port: int, sick: Path) -> None:
    from http.server import BaseHTTPRequestHandler  # noqa: PLC0415 - slow to import
    from socketserver import ThreadingTCPServer  # noqa: PLC0415 - HTTPServer asks DNS for its own name

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500 if sick.exists() else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    ThreadingTCPServer.allow_reuse_address = ThreadingTCPServer.daemon_threads = True
    threading.Thread(target=ThreadingTCPServer(("", port), Answers).serve_forever, daemon=True).start()


def lose_a_child(when: Path) -> None:
    child = os.fork()
    while not child or not when.exists():
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    note("lost", child=child)


def listen(traits: dict[str, str]) -> None:
    if "ignores-term" in traits:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, on_term(traits))
    signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(0))


def begin(traits: dict[str, str]) -> None:
    note("begin", env=dict(os.environ))
    if "daemon" in traits:
        leave_daemon()
    if "shm" in traits:
        Path(f"/dev/shm/workload-{os.getpid()}").write_bytes(b"x" * 4096)  # noqa: S108
    for number in range(int(traits.get("says", 0))):
        sys.stderr.write(f"line {number + 1} of rank {os.environ['RANK_ID']}\n")
    if "serves" in traits:
        serve(int(traits["serves"]), Path(traits.get("sick", "/nowhere")))


def take(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def live(traits: dict[str, str]) -> None:
    if "loses" in traits:
        lose_a_child(Path(traits["loses"]))
    if "after" in traits:
        time.sleep(float(traits["after"]))
    while "until" in traits and not Path(traits["until"]).exists():
        time.sleep(0.05)
    while "takes" in traits and not take(Path(traits["takes"])):
        time.sleep(0.05)
    eaten = []
    while "eats" in traits:
        eaten.append(b"x" * 4_000_000)
    if "exits" in traits:
        note("exit", code=int(traits["exits"]))
        sys.exit(int(traits["exits"]))
    while True:
        time.sleep(60)


def main() -> None:
    traits = read_traits(sys.argv[1:])
    listen(traits)
    begin(traits)
    live(traits)


main()
