"""Engines behind a shell or a script of the user's: their port is known, or it is said that it is not.

The engine here is a server called ``vllm``: well once a file is there, and slow where it is asked to be.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.local import UNITAGENT, clean, unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE, until

ENGINE = f"""\
#!{sys.executable}
import http.server, os, pathlib, sys, time
folder = pathlib.Path(__file__).parent

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while self.path == "/slow" and not (folder / "go").exists():
            (folder / "asked").touch()
            time.sleep(0.05)
        self.send_response(200 if self.path != "/health" or (folder / "well").exists() else 503)
        self.end_headers()
        self.wfile.write(b"whole")

    def log_message(self, *_):
        pass

(folder / "begun").touch()
while not (folder / "open").exists():
    time.sleep(0.05)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Service:
    """A Unit of one instance whose engine is found on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "output"
        self.port, self.probes = free_port(), free_port()
        (folder / "vllm").write_text(ENGINE)
        (folder / "vllm").chmod(0o755)
        self.popen: subprocess.Popen[bytes] | None = None

    def variables(self, **more: str) -> dict[str, str]:
        given = {"UNIT_SIZE": "1", "RANK_ID": "0", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1"}
        given |= {"UNIT_HTTP_ADDRESS": f"127.0.0.1:{self.probes}", "UNIT_ID": self.folder.name}
        given |= {
            "UNIT_DRAIN_SECONDS": "1000",
            "UNIT_STOP_GRACE_SECONDS": "2000",
            "UNIT_DEREGISTER_SECONDS": "0",
        }
        return clean(**given, **more) | {"PATH": f"{self.folder}:{clean()['PATH']}", "HOME": str(self.folder)}

    def start(self, command: Sequence[str], **more: str) -> None:
        with self.output.open("wb") as file:
            self.popen = subprocess.Popen(
                [*UNITAGENT, "run", *(("--", *command) if command else ())],
                env=self.variables(**more), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    def ready(self) -> bool:
        return unitagent("probe", "ready", "--address", f"127.0.0.1:{self.probes}").returncode == 0

    def running(self) -> str:
        done = unitagent("status", "--json", "--http-address", f"127.0.0.1:{self.probes}")
        state: str = json.loads(done.stdout)["instances"][0]["state"]
        return state


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    for name in ("open", "well", "go"):
        made.touch(name)
    if made.popen is not None:
        made.popen.terminate()
        try:
            made.popen.wait(DEADLINE)
        finally:
            made.popen.kill()


@pytest.mark.parametrize(
    "shell", [("sh", "-c"), ("bash", "-euo", "pipefail", "-c"), ("bash", "--norc", "-c")], ids=" ".join
)
def test_an_engine_in_a_shells_text_is_waited_for_and_drained(service: Service, shell: Sequence[str]) -> None:
    text = f"cd {service.folder} && export A=b; exec ./vllm serve m --port {service.port}"
    service.start((*shell, text), UNIT_FRAMEWORK="auto")
    until((service.folder / "begun").exists, "the engine runs")
    asked = f"rank 0's health: GET http://127.0.0.1:{service.port}/health every 5 s"
    assert service.output.read_text().count(asked) == 1
    service.touch("open")
    until(lambda: service.running() == "running", "it is known to run")
    assert not service.ready(), "it says itself that it is not well"
    service.touch("well")
    until(service.ready, "it is well")
    answers: list[bytes] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE)
        connection.request("GET", "/slow")
        answers.append(connection.getresponse().read())

    asking = threading.Thread(target=ask)
    asking.start()
    until((service.folder / "asked").exists, "the request is in flight")
    assert service.popen is not None
    service.popen.terminate()
    until(lambda: not service.ready(), "it drains")
    service.touch("go")
    asking.join(DEADLINE)
    assert answers == [b"whole"]
    assert service.popen.wait(DEADLINE) == 0


def waits_for_its_port(service: Service) -> None:
    until((service.folder / "begun").exists, "the engine runs")
    until(lambda: service.running() == "running", "it is known to run")
    assert not service.ready(), "nobody listens yet"
    service.touch("open")
    until(service.ready, "it takes connections")


def test_a_service_file_with_a_port_and_no_check(service: Service) -> None:
    script = f"cd {service.folder}\nwhile ./vllm --port {service.port}; do :; done"
    container = {"image": "x", "port": service.port, "script": script}
    file = service.folder / "service.json"
    file.write_text(json.dumps({"unit": {"size": 1}, "containers": [container]}))
    service.start((), UNIT_CONFIG=str(file))
    waits_for_its_port(service)
    told = service.output.read_text()
    assert "are not known" not in told
    assert told.count(f"rank 0's health: a TCP connect to port {service.port} every 5 s") == 1


def test_a_script_and_a_traffic_port(service: Service) -> None:
    script = service.folder / "start.sh"
    script.write_text(f"#!/bin/sh\nvllm serve m --port {service.port}\n")
    script.chmod(0o755)
    service.start((str(script),), UNIT_FRAMEWORK="auto", UNIT_TRAFFIC_PORT=str(service.port))
    waits_for_its_port(service)


def test_the_port_in_a_start_script_of_a_named_framework(service: Service) -> None:
    script = service.folder / "start.sh"
    script.write_text(f"#!/bin/bash\nset -e\nPORT={service.port}\nexec vllm serve m --port $PORT\n")
    script.chmod(0o755)
    service.start((str(script),), UNIT_FRAMEWORK="vllm")
    service.touch("open")
    service.touch("well")
    until(service.ready, "it is well")
    told = service.output.read_text()
    assert f"rank 0's health: GET http://127.0.0.1:{service.port}/health" in told
    assert "is assumed" not in told


@pytest.mark.parametrize(
    "command",
    [("sh", "-c", "while true; do vllm serve m; done"), ("./start.sh",), ("sh", "-c", "sleep 1000")],
)
def test_where_nothing_is_known_that_is_said_once(service: Service, command: Sequence[str]) -> None:
    script = service.folder / "start.sh"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(0o755)
    command = [word.replace("./start.sh", str(script)) for word in command]
    service.start(command, UNIT_FRAMEWORK="auto")
    until(service.ready, "it runs")
    told = service.output.read_text()
    assert (
        told.count("health URL and port of the workload are unknown: ready only means that its process runs")
        == 1
    )
    assert "rank 0's health" not in told
    assert told.count("UNIT_HEALTH_URL") == told.count("UNIT_TRAFFIC_PORT") == 1


def test_a_framework_that_was_named_in_vain(service: Service) -> None:
    service.start(("sh", "-c", "while true; do vllm serve m; done"), UNIT_FRAMEWORK="vllm")
    assert service.popen is not None
    assert service.popen.wait(DEADLINE) == 2
    (line,) = service.output.read_text().splitlines()
    assert "UNIT_FRAMEWORK=vllm: no part of COMMAND can be completed" in line
    assert "`vllm serve MODEL …`" in line
    assert not (service.folder / "begun").exists()
