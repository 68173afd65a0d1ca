"""The Unit's secret: what is seen on the wire is not it, it is long, and an open store has one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.network.conftest import MakeLab
from tests.operator.command import UNITAGENT, run
from tests.ports import free_port
from unitagent.system.keyring import derive_signing_key, derive_store_password

SECRET = "a secret that is long enough"  # noqa: S105
LISTENER = Path(__file__).parent / "programs" / "listener.py"


def test_a_listener_in_rank_0_s_place_reads_neither_the_secret_nor_the_signing_key() -> None:
    port = free_port()
    environ = {
        "UNIT_SECRET": SECRET,
        "MASTER_ADDRESS": "127.0.0.1",
        "RANK_IP": "127.0.0.1",
        "COMM_IFNAME": "lo",
    }
    environ |= {"RANK_ID": "1", "UNIT_SIZE": "2", "UNIT_STORE_PORT": str(port), "UNIT_HTTP_ADDRESS": "off"}
    words = [sys.executable, "-I", "-S", str(LISTENER), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        with subprocess.Popen([*UNITAGENT, "run", "--", "true"], env=environ, stderr=-3) as agent:
            heard = bytes.fromhex(listener.stdout.readline()).decode()
            agent.kill()
    assert "AUTH" in heard
    assert derive_store_password(SECRET) in heard
    assert SECRET not in heard
    assert derive_signing_key(SECRET) not in heard


@pytest.mark.parametrize("secret", ["a", "correct-horse", "x" * 15])
def test_a_secret_that_a_dictionary_finds_is_refused(secret: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(secret + "\n")
    for given in ({"UNIT_SECRET": secret}, {"UNIT_SECRET_FILE": str(file)}):
        done = run("run", "--size", "1", "--rank", "0", "--", "true", environ=given)
        assert done.returncode == 2
        assert re.search(r"UNIT_SECRET='\*\*\*'.*at least 16 bytes.*`openssl rand -hex 32`", done.stderr)
        assert "correct-horse" not in done.stderr


@pytest.mark.root
def test_a_store_that_everybody_reaches_is_not_run_without_a_secret(make_lab: MakeLab) -> None:
    lab = make_lab(1, store=False)
    embedded = {"UNIT_REDIS_URL": None, "UNIT_SIZE": 2, "UNIT_SECRET": None}
    lab.start(0, **embedded)
    assert lab.codes() == [2]
    said = lab.agents[0].tail()
    for word in ("UNIT_SECRET is not set", lab.net.ip(0), "openssl rand -hex 32", "UNIT_INSECURE=true"):
        assert word in said
    lab.start(0, UNIT_INSECURE="true", **embedded)
    lab.until(lambda: "UNIT_INSECURE=true: the embedded store" in lab.agents[0].tail(), "it says so")
    lab.until(lab.agents[0].status, "the agent answers")


@pytest.mark.root
def test_a_unit_of_one_keeps_its_open_store_to_itself(make_lab: MakeLab) -> None:
    lab = make_lab(1, store=False)
    lab.form(UNIT_REDIS_URL=None)
    look = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], 9471)))"
    for address, reached in (("127.0.0.1", True), (lab.net.ip(0), False)):
        words = [*lab.net.hosts[0].enter(), sys.executable, "-I", "-S", "-c", look, address]
        assert (subprocess.run(words, check=False).returncode == 0) is reached
