"""``unitagent run`` with nothing but a service file: no COMMAND, no size, and every kind of check."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import UNITAGENT, clean, unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE, until

SCRIPT = 'touch "$0/begun.$UNIT_GENERATION"; exec sleep 1000'
FAST = {"period_seconds": 1, "timeout_seconds": 5, "failure_threshold": 2}


class Instance:
    """The only instance of a Unit, on loopback."""

    def __init__(self, folder: Path, **container: Any) -> None:
        self.folder = folder
        self.port = free_port()
        script = f"sh -c '{SCRIPT}' {folder}"
        document = {"unit": {"size": 1, "guard": True}, "containers": [{"script": script, **container}]}
        (folder / "service.json").write_text(json.dumps(document))
        given = {"RANK_ID": "0", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1", "UNIT_BACKOFF_SECONDS": "0"}
        given |= {"UNIT_CONFIG": str(folder / "service.json"), "UNIT_HTTP_ADDRESS": f"127.0.0.1:{self.port}"}
        self.popen = subprocess.Popen([*UNITAGENT, "run"], env=clean(**given), stdin=subprocess.DEVNULL)

    def ready(self) -> bool:
        done = unitagent("probe", "ready", "--address", f"127.0.0.1:{self.port}")
        return done.returncode == 0

    def begun(self, generation: int) -> bool:
        return (self.folder / f"begun.{generation}").exists()

    def failure(self) -> dict[str, Any]:
        done = unitagent("status", "--json", "--http-address", f"127.0.0.1:{self.port}")
        failure: dict[str, Any] = json.loads(done.stdout)["failure"]
        return failure


@contextmanager
def instance(folder: Path, **container: Any) -> Iterator[Instance]:
    started = Instance(folder, **container)
    try:
        yield started
    finally:
        started.popen.terminate()
        assert started.popen.wait(DEADLINE) == 0


def present(folder: Path, name: str) -> dict[str, Any]:
    """A check by a command that wants a file to be there."""
    return {"exec": {"command": ["test", "-e", str(folder / name)]}, **FAST}


@pytest.mark.slow
def test_startup_then_readiness_then_liveness(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("started", "open", "alive")}
    checks = {
        "startup_check": present(tmp_path, "started") | {"failure_threshold": 1000},
        "readiness_check": present(tmp_path, "open"),
        "liveness_check": present(tmp_path, "alive"),
    }
    with instance(tmp_path, **checks) as unit:
        until(lambda: unit.begun(1), "the workload begins")
        for file in files.values():
            assert not unit.ready()
            file.touch()
        until(unit.ready, "all checks pass")
        files["open"].unlink()
        until(lambda: not unit.ready(), "no traffic")
        files["open"].touch()
        until(unit.ready, "traffic again")
        assert not unit.begun(2)
        files["alive"].unlink()
        until(lambda: unit.begun(2), "a new generation")
        assert not unit.ready()
        failure = unit.failure()
        assert (failure["reason"], failure["generation"]) == ("unhealthy", 1)
        assert "test exited with code 1 (2 times in a row)" in failure["detail"]
        files["alive"].touch()
        until(unit.ready, "well again")


def test_a_start_that_takes_longer_than_allowed(tmp_path: Path) -> None:
    with instance(tmp_path, startup_check=present(tmp_path, "started")) as unit:
        until(lambda: unit.begun(2), "a new generation")
        assert unit.failure()["reason"] == "startup-timeout"
        (tmp_path / "started").touch()
        until(unit.ready, "started")


def test_a_lone_readiness_check_restarts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as engine:
        port = engine.getsockname()[1]
        with instance(tmp_path, readiness_check={"tcp_socket": {"port": port}, **FAST}) as unit:
            until(unit.ready, "the port is open")
            engine.close()
            until(lambda: not unit.ready(), "the port is closed")
            assert not unit.begun(2)
