"""``unitagent doctor`` as a person runs it: every look at something real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.local import UNIT, LocalUnit
from tests.groups import cannot_save
from tests.operator.command import run
from tests.ports import free_port
from tests.servers import Server, running
from tests.waiting import until
from unitagent.operator.doctor.doctor_cli import check_gpus
from unitagent.workload import leftovers

ALONE = {"UNIT_ID": "u", "UNIT_SIZE": "1", "RANK_ID": "0", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1"}


def examined(*words: str, **environ: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Run it; give the exit code, and the findings of each check."""
    given = ALONE | {"UNIT_HTTP_ADDRESS": f"127.0.0.1:{free_port()}"} | environ
    done = run("doctor", "--json", *words, environ=given)
    assert done.stderr == ""
    seen: dict[str, Any] = json.loads(done.stdout)
    checks: dict[str, list[dict[str, str]]] = {}
    for found in seen["checks"]:
        assert bool(found["remedy"]) == (found["verdict"] != "ok")
        checks.setdefault(found["check"], []).append(found)
    assert done.returncode == (seen["verdict"] == "fail")
    return done.returncode, checks


def test_an_instance_that_can_start() -> None:
    code, checks = examined()
    assert code == 0
    assert checks["settings"][0]["detail"] == "rank 0 of 1 of Unit u"
    assert checks["address"][0]["detail"] == "lo has 127.0.0.1"
    assert [port["verdict"] for port in checks["port"]] == ["ok", "ok"]
    assert {"store", "shm", "memlock", "nofile", "variables", "init", "grace"} <= checks.keys()


def test_missing_identity_hides_nothing_else() -> None:
    code, checks = examined(RANK_ID="", UNIT_SIZE="")
    assert code == 1
    assert "UNIT_SIZE" in checks["settings"][0]["detail"]
    assert {"address", "port", "shm", "init"} <= checks.keys()


def test_settings_that_cannot_be_read_at_all_hide_nothing_of_the_machine() -> None:
    code, checks = examined(UNIT_LEASE_SECONDS="soon")
    assert code == 1
    assert "UNIT_LEASE_SECONDS" in checks["settings"][0]["detail"]
    assert {"shm", "init"} <= checks.keys()


def test_a_interface_that_is_not_there() -> None:
    code, checks = examined(COMM_IFNAME="nic9", RANK_IP="")
    assert code == 1
    assert "COMM_IFNAME='nic9'" in checks["address"][0]["detail"]


def test_a_port_that_somebody_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        code, checks = examined(UNIT_HTTP_ADDRESS=f"127.0.0.1:{port}")
    assert code == 1
    assert checks["port"][0]["verdict"] == "fail"
    assert f"127.0.0.1:{port}" in checks["port"][0]["detail"]


def test_probes_that_the_other_ranks_would_not_find() -> None:
    code, checks = examined(UNIT_SIZE="2", RANK_IP="127.0.0.2", UNIT_SECRET="hushed, and long enough")  # noqa: S106
    assert code == 1
    assert checks["probes"][0]["verdict"] == "fail"
    assert "ask this one at 127.0.0.2:" in checks["probes"][0]["detail"]


def test_ports_that_the_agent_here_holds(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, size=1)
    try:
        until((tmp_path / "1.0").exists, "the workload runs")
        code, checks = examined(UNIT_HTTP_ADDRESS=f"127.0.0.1:{unit.port}", UNIT_ID=UNIT)
    finally:
        unit.close()
    assert code == 0, checks
    assert [port["verdict"] for port in checks["port"]] == ["ok", "ok"]
    assert checks["rights"][0]["verdict"] == "ok"  # the embedded store was asked


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with running(tmp_path, password="hush") as started:  # noqa: S106
        yield started


def test_a_store_that_answers(server: Server) -> None:
    code, checks = examined(UNIT_REDIS_URL=server.url)
    assert code == 0
    assert [checks[name][0]["verdict"] for name in ("store", "rights", "clock")] == ["ok", "ok", "ok"]


def test_no_password_is_shown(server: Server) -> None:
    wrong = f"redis://:wrong-hush@127.0.0.1:{server.port}"
    done = run("doctor", environ=ALONE | {"UNIT_REDIS_URL": wrong, "UNIT_SECRET": "hushed, and long enough"})
    assert done.returncode == 1
    assert "refused the user or password" in done.stdout
    assert "hush" not in done.stdout + done.stderr


def test_a_store_that_cannot_save_is_mended_at_its_disk(tmp_path: Path) -> None:
    with cannot_save(tmp_path) as server:
        code, checks = examined(UNIT_REDIS_URL=server.url)
    assert code == 1
    rights = checks["rights"][0]
    assert "cannot save to its disk" in rights["detail"]
    assert rights["detail"].count("cannot save") == 1
    assert "free disk space" in rights["remedy"]
    assert "ACL" not in rights["remedy"]


def test_a_store_that_is_not_there() -> None:
    code, checks = examined(UNIT_REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert code == 1
    assert "cannot be reached" in checks["store"][0]["detail"]


def test_rank_0_s_store_may_not_be_there_yet() -> None:
    code, checks = examined(RANK_ID="1", UNIT_SIZE="2", MASTER_ADDRESS="localhost")
    assert code == 0
    assert checks["settings"][0]["detail"] == "rank 1 of 2 of Unit u"  # and no platform, as with Compose
    assert checks["store"][0]["verdict"] == "warn"
    assert "127.0.0.1" in checks["leader"][0]["detail"]


def test_ways_to_peers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:
        here, gone = peer.getsockname()[1], free_port()
        _, checks = examined("--peer", f"127.0.0.1:{here}", "--peer", f"127.0.0.1:{gone}")
    assert [found["verdict"] for found in checks["peer"]] == ["ok", "warn"]


def test_ways_to_the_ranks_that_the_agent_here_has_met(tmp_path: Path) -> None:
    unit = LocalUnit(tmp_path, size=2)
    try:
        unit.ready()
        given = {"UNIT_HTTP_ADDRESS": f"127.0.0.1:{unit.port}", "UNIT_ID": UNIT, "UNIT_SIZE": "2"}
        _, checks = examined(**given)
        _, unsaid = examined(**given, RANK_ID="auto", UNIT_REDIS_URL=f"redis://127.0.0.1:{unit.port + 1}")
    finally:
        unit.close()
    for seen in (checks, unsaid):
        assert [found["verdict"] for found in seen["peer"]] == ["ok"]
        assert seen["peer"][0]["detail"].startswith(f"127.0.0.2:{unit.port} answers")


def test_gpus_that_others_hold(tmp_path: Path) -> None:
    (gpu := tmp_path / "nvidia0").touch()
    beginning = str(tmp_path / "nvidia")
    hold = ["sh", "-c", 'exec 9<"$0"; echo ready; read line', str(gpu)]
    mine = {**os.environ, "UNIT_AGENT": leftovers.make_marker("me")}
    assert [found.verdict for found in check_gpus(beginning)] == ["ok"]
    for environ, verdict in ((mine, "ok"), (dict(os.environ), "warn")):
        with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            found = check_gpus(beginning)
            assert [one.verdict for one in found] == [verdict]
            assert (f"{gpu} by process {holder.pid} (sh)" in found[0].detail) == (verdict == "warn")
    assert check_gpus("/nowhere/nvidia") == []


def test_variables_in_the_way() -> None:
    _, checks = examined(VLLM_PORT="tcp://10.0.0.1:80", NCCL_IB_GID_INDEX="3")
    assert {found["verdict"] for found in checks["variables"]} == {"warn"}
    assert len(checks["variables"]) == 2


def test_torchrun_s_variables_in_the_way_and_those_that_make_way() -> None:
    stray = {"PET_MASTER_ADDR": "192.0.2.1", "PET_MASTER_PORT": "29500"}
    _, checks = examined(**stray)
    said = [found["detail"].partition("=")[0] for found in checks["variables"]]
    assert said == ["PET_MASTER_ADDR", "PET_MASTER_PORT"]
    kubeflow = stray | {"PET_NNODES": "1", "PET_NODE_RANK": "0", "RANK_ID": "", "UNIT_SIZE": ""}
    _, checks = examined(**kubeflow)
    assert [found["verdict"] for found in checks["variables"]] == ["ok"]


def test_variables_of_the_service_file_count_too(tmp_path: Path) -> None:
    (file := tmp_path / "service.json").write_text(
        json.dumps({"containers": [{"script": "true", "env": [{"name": "HOST_IP", "value": "192.0.2.1"}]}]})
    )
    _, checks = examined(UNIT_CONFIG=str(file))
    assert checks["variables"][0]["detail"].startswith("HOST_IP=192.0.2.1")


def test_a_store_s_port_that_is_none() -> None:
    code, checks = examined(UNIT_HTTP_ADDRESS="127.0.0.1:65535")
    assert code == 1
    assert "UNIT_HTTP_ADDRESS=127.0.0.1:65535" in checks["settings"][0]["detail"]
    assert "127.0.0.1:65536 is not available: a port must be at most 65535" in checks["port"][1]["detail"]


@pytest.mark.parametrize("peer", ["here", "127.0.0.1", "127.0.0.1:0", "localhost:80", "off", "[::1]"])
def test_a_peer_that_is_none(peer: str) -> None:
    done = run("doctor", "--peer", peer, environ=ALONE)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--peer={peer!r}: must be" in done.stderr


def test_a_person_reads_lines() -> None:
    done = run("doctor", environ=ALONE | {"UNIT_HTTP_ADDRESS": "off"})
    lines = done.stdout.splitlines()
    assert lines[0] == "ok    settings  rank 0 of 1 of Unit u"
    assert lines[-1].endswith(" ok")


def look_at_warm(tmp_path: Path, *command: str, **environ: str) -> dict[str, str]:
    (found,) = examined("--", *command, UNIT_WARM="auto", **environ)[1]["warm"]
    return found


def test_a_warm_start_that_would_work_runs_nothing_of_the_users(tmp_path: Path) -> None:
    package = tmp_path / "engine" / "parts"
    package.mkdir(parents=True)
    for text in ("engine/__init__.py", "engine/parts/__init__.py", "engine/parts/late.py"):
        (tmp_path / text).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    found = look_at_warm(
        tmp_path,
        sys.executable,
        "x.py",
        PYTHONPATH=str(tmp_path),
        UNIT_WARM_MODULES="engine.parts.late,json,sys",
    )
    assert found["verdict"] == "ok", found
    assert f"from {sys.executable} (Python 3." in found["detail"]
    assert "with 3 modules" in found["detail"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "modules", "why"),
    [
        ((sys.executable, "-S", "x.py"), "no_such_engine.core", "does not find no_such_engine.core"),
        ((sys.executable, "-S", "x.py"), "json.no_such_part", "does not find json.no_such_part"),
        ((sys.executable, "x.py"), "", "no modules are known that it imports"),
        (("sh", "-c", "true"), "json", "COMMAND runs sh, and no Python"),
        (("no-such-program",), "json", "no-such-program"),
        (("{}/python3", "x.py"), "json", "does not answer as Python does"),
    ],
)
def test_a_warm_start_that_would_not_work(
    tmp_path: Path, command: tuple[str, ...], modules: str, why: str
) -> None:
    shutil.copy("/bin/true", tmp_path / "python3")
    words = [word.format(tmp_path) for word in command]
    found = look_at_warm(tmp_path, *words, UNIT_WARM_MODULES=modules)
    assert found["verdict"] == "warn"
    assert "each start is cold" in found["detail"]
    assert why in found["detail"]


def test_a_module_that_is_passed_over_is_named(tmp_path: Path) -> None:
    found = look_at_warm(tmp_path, sys.executable, "x.py", UNIT_WARM_MODULES="json,json.absent")
    assert found["verdict"] == "ok"
    assert "without json.absent" in found["detail"]


def test_where_warm_starts_are_off_the_doctor_looks_for_none() -> None:
    assert "warm" not in examined("--", sys.executable, "x.py")[1]
