"""The Unit's secret between real agents, and a store that asks for certificates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.network.cabling import STORE_IP
from tests.network.conftest import MakeLab
from tests.network.lab import PROGRAMS, Lab
from tests.store.test_access import Certificates
from tests.waiting import throughout

LEASE = 5.0


@contextmanager
def impostor(lab: Lab, host: int, status: dict[str, Any]) -> Iterator[None]:
    """Somebody who says at a host's address what the agent there said last."""
    body = lab.folder / "body.json"
    body.write_text(json.dumps(status))
    who = [lab.net.ip(host), "9470", str(host), status["instances"][host]["incarnation"], str(body)]
    leash = ["setpriv", "--pdeathsig", "KILL", "--"]
    words = [sys.executable, "-I", "-S", str(PROGRAMS / "impostor.py"), *who]
    with subprocess.Popen(
        [*lab.net.hosts[host].enter(), *leash, *words], stdout=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == "ready\n"
        yield
        popen.kill()


@pytest.mark.slow
@pytest.mark.parametrize("secret", ["between the two of us", None])
def test_nobody_without_the_secret_keeps_a_dead_agent_alive(lab: Lab, secret: str | None) -> None:
    """Without a secret the same answers are believed, so it is the secret that tells them apart."""
    generation = lab.form(UNIT_SECRET=secret)["generation"]
    said = lab.agents[1].status()
    lab.net.cut(1)  # nobody sees a refused connection before the impostor is there
    lab.agents[1].kill()
    lab.agents[1].code()
    with impostor(lab, 1, said):
        lab.net.heal()
        if secret is None:
            throughout(lambda: lab.is_ready(0), "the impostor was not believed", LEASE + 3, pause=0.2)
            return
        lab.until(lambda: lab.agents[0].status()["generation"] > generation, "the death is noticed", 15)
        failure = lab.agents[0].status()["failure"]
        assert (failure["rank"], failure["reason"]) == (1, "lost")
    lab.start(1, UNIT_SECRET=secret)
    lab.wait_ready(above=generation)


def test_a_store_that_asks_for_a_client_s_certificate(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2, store=False)
    files = Certificates(tmp_path)
    own = ("--tls-cert-file", files["server.crt"], "--tls-key-file", files["server.key"])
    lab.store.start("--tls-port", "6380", "--tls-ca-cert-file", files["ca.crt"], *own)
    root = f"ssl_ca_certs={files['ca.crt']}&ssl_check_hostname=false"
    client = f"ssl_certfile={files['client.crt']}&ssl_keyfile={files['client.key']}"
    address = f"rediss://{STORE_IP}:6380/0?{root}"
    lab.start(0, UNIT_REDIS_URL=address, UNIT_STORE_TIMEOUT_SECONDS=1)
    assert lab.codes([0]) == [69]
    generation = lab.form(UNIT_REDIS_URL=f"{address}&{client}")["generation"]
    lab.strike(1)
    lab.wait_ready(above=generation)
