"""A name server that needs longer than a store operation may take, as when the first one of two is dead."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import ExitStack

from tests.network.cabling import STORE_IP
from tests.network.conftest import MakeLab
from tests.network.containers import agent_command
from tests.network.lab import PROGRAMS, Lab, workload
from tests.network.redis_server import PORT

_SERVER, _NAME = "127.0.0.53", "there.test"
_SLOW = 1.0  # seconds
_QUICK = {"UNIT_LEASE_SECONDS": 1, "UNIT_HEARTBEAT_SECONDS": 0.3}  # an operation takes 0.3 s at most


def serve(lab: Lab, host: int, address: str, ends: ExitStack) -> None:
    """Have the name lead there, on this host."""
    leash = ["setpriv", "--pdeathsig", "KILL", "--"]
    words = [sys.executable, str(PROGRAMS / "name_server.py"), _SERVER, _NAME, address, str(_SLOW)]
    server = ends.enter_context(subprocess.Popen([*lab.net.hosts[host].enter(), *leash, *words]))
    ends.callback(server.kill)


def start(lab: Lab, host: int, **env: object) -> None:
    """Start an agent that asks that name server."""
    resolv = lab.folder / "resolv.conf"
    resolv.write_text(f"nameserver {_SERVER}\n")
    script = f'mount --bind {shlex.quote(str(resolv))} /etc/resolv.conf && exec "$@"'
    lab.launch(host, ["sh", "-c", script, "sh", *agent_command(*workload())], **{**_QUICK, **env})


def test_a_store_behind_a_slow_name_is_reached(make_lab: MakeLab) -> None:
    with ExitStack() as ends:
        lab = make_lab(2)
        for host in range(2):
            serve(lab, host, STORE_IP, ends)
            start(lab, host, UNIT_REDIS_URL=f"redis://{_NAME}:{PORT}")
        lab.wait_ready()


def test_an_embedded_store_behind_a_slow_name_is_reached(make_lab: MakeLab) -> None:
    with ExitStack() as ends:
        lab = make_lab(2, store=False)
        shared = {"UNIT_REDIS_URL": None, "MASTER_ADDRESS": _NAME, "UNIT_SECRET": "between the two of us"}
        for host in range(2):
            serve(lab, host, lab.net.ip(0), ends)
            start(lab, host, **shared)
        lab.wait_ready()


def test_a_store_that_moves_to_another_address_is_found_there(make_lab: MakeLab) -> None:
    """A failover by DNS: what was told late of the old address is not believed for ever."""
    with ExitStack() as before, ExitStack() as after:
        lab = make_lab(1)
        serve(lab, 0, "10.88.0.99", before)  # nobody is there
        start(lab, 0, UNIT_REDIS_URL=f"redis://{_NAME}:{PORT}", UNIT_LOG_LEVEL="debug")
        agent = lab.agents[0]
        lab.until(lambda: agent.said(_NAME, "does not answer in time"), "the old address was tried")
        before.close()
        serve(lab, 0, STORE_IP, after)
        lab.wait_ready()
