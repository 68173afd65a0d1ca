"""A Unit of two instances that runs a real vLLM, and how it is asked, struck and timed.

One command on both ranks; nothing in it tells them apart. A process is known by its pid and its start, since
vLLM gives its processes titles that overwrite the environment they were started with.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.frameworks.engine import SCRATCH, contained
from tests.frameworks.installed import VLLM, path
from tests.network.containers import agent_command
from tests.network.lab import Lab
from tests.network.lives import Life
from tests.network.measuring import WHERE
from unitagent.system import procfs

SIZE = 2
PORT = 8000
PATIENCE = 240.0  # seconds until both ranks have loaded, on a machine with other work
DEATH_NOTICED = 1.5  # seconds: one, and the slack of a machine with other work
MODEL = VLLM.parent / "tiny-model"
TENSOR_PARALLEL = ("--tensor-parallel-size", "2", "--enforce-eager")
_SMALL = ("--dtype", "bfloat16", "--max-model-len", "1024", "--max-num-seqs", "4")
_OFFLINE = {"HF_HUB_OFFLINE": 1, "VLLM_NO_USAGE_STATS": 1, "DO_NOT_TRACK": 1}
_FRUGAL = {"VLLM_CPU_KVCACHE_SPACE": 1, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": 1}
_WARM = "UNITAGENT_WARM"  # the value of UNIT_WARM for these Units
_AGENT = {"UNIT_FRAMEWORK": "auto", "UNIT_BACKOFF_SECONDS": 0, "UNIT_MAX_RESTARTS": 1000}

Processes = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds after a fault.

    Attributes:
        detected: the last of both ``/readyz`` and ``/traffic`` said no.
        restarted: the last of the new generation's main processes was spawned.
        served: the first completion was there.

    """

    fault: str
    detected: float
    restarted: float
    served: float
    reason: str


class VllmUnit:
    """vLLM on the two hosts of a lab."""

    def __init__(self, lab: Lab, layout: tuple[str, ...] = TENSOR_PARALLEL) -> None:
        self.lab = lab
        serve = ["vllm", "serve", str(MODEL), "--served-model-name", "tiny", *_SMALL, *layout]
        for host in range(SIZE):
            cache = VLLM.parent / f"cache{host}"
            environment = {"PATH": path(VLLM), "TMPDIR": SCRATCH, "VLLM_CACHE_ROOT": cache}
            words = contained(lab, host, agent_command(*serve))
            warm = {"UNIT_WARM": os.environ.get(_WARM, "off")}
            lab.launch(host, words, **environment, **_OFFLINE, **_FRUGAL, **_AGENT, **warm)

    def generation(self) -> int:
        """Of a Unit that serves."""
        return int(self.lab.agents[0].status()["generation"])

    def wait_serving(self, above: int = 0) -> None:
        """Wait until the Unit is ready in a newer generation and has completed a prompt."""
        ready = lambda: all(self.lab.is_ready(host, above) for host in range(SIZE))  # noqa: E731
        self.lab.until(ready, f"ready above generation {above}", PATIENCE)
        self.lab.until(self.complete, "a completion", PATIENCE)

    def complete(self, tokens: int = 8, timeout: float = 60.0) -> int:
        """Ask for a completion of so many tokens; how many came, 0 when something else did."""
        question = {"model": "tiny", "prompt": "hello", "max_tokens": tokens, "ignore_eos": True}
        code, body = self._ask("POST", "/v1/completions", json.dumps(question), timeout)
        return int(json.loads(body)["usage"]["completion_tokens"]) if code == HTTPStatus.OK else 0

    def busy(self) -> bool:
        """Whether the engine works on a request."""
        return any(self.metric("vllm:num_requests_running").values())

    def metric(self, name: str) -> dict[str, float]:
        """What the engines say of a metric: engine -> value; empty when there is no such."""
        _, text = self._ask("GET", "/metrics", None, 10.0)
        line = re.compile(rf'{name}{{.*engine="(\d+)".*}} (\S+)')
        return {found[1]: float(found[2]) for found in map(line.fullmatch, text.splitlines()) if found}

    def _ask(self, method: str, where: str, body: str | None, timeout: float) -> tuple[int, str]:
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout)
        try:
            client.sock = self.lab.net.hosts[0].connection()
            client.sock.settimeout(timeout)
            client.sock.connect(("127.0.0.1", PORT))
            client.request(method, where, body, {"content-type": "application/json"})
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            client.close()

    def started(self, generation: int) -> bool:
        """Whether vLLM runs on all ranks in this generation."""
        ranks = {life.rank for life in self.lab.watcher.alive() if _leads(life, generation)}
        return len(ranks) == SIZE

    def main(self, rank: int) -> int:
        """The pid of a rank's ``vllm serve``."""
        return self.lab.main(rank, self.generation()).pid

    def worker(self, rank: int) -> int:
        """The pid of a rank's only worker."""
        found = [one.pid for one in self._processes(rank) if one.name.startswith("VLLM::Worker")]
        assert len(found) == 1, list(self._processes(rank))
        return found[0]

    def processes(self) -> Processes:
        """Everything that lives in the containers, their agents left out."""
        return frozenset((one.pid, one.ticks) for host in range(SIZE) for one in self._processes(host))

    def _processes(self, host: int) -> Iterator[procfs.Process]:
        agent = self.lab.agents[host].pid
        for one in procfs.select_descendants(procfs.read_process_table(), agent):
            if one.alive and not _watches(one.pid):
                yield one

    def refusing(self) -> bool:
        """Whether both agents say that the Unit does not serve, and rank 0 wants no traffic."""
        agents = self.lab.agents
        return agents[0].get("/traffic")[0] != HTTPStatus.OK and not any(
            agents[host].ready() for host in range(SIZE)
        )

    def survive(self, fault: str, strike: Callable[[], object], mend: Callable[[], object] = object) -> Times:
        """Strike, wait until both say so, mend, wait for a completion: how long it took.

        No process from before may be left once the Unit serves again.
        """
        self.lab.until(self.is_prepared, "the next starts are warm, if any is to be", PATIENCE)
        generation, before = self.generation(), self.processes()
        struck = time.monotonic()
        strike()
        self.lab.until(self.refusing, f"{fault} is noticed", PATIENCE)
        detected = time.monotonic()
        mend()
        self.wait_serving(generation)
        served = time.monotonic()
        left = before & self.processes()
        assert not left, f"processes of generation {generation} live on: {left}"
        times = Times(fault, detected - struck, self._restarted() - struck, served - struck, self._reason())
        _keep(times)
        return times

    def is_prepared(self) -> bool:
        """Whether each rank has a process that waits for the next start, where starts are to be warm."""
        cold = os.environ.get(_WARM, "off") == "off"
        return cold or all(_has_waiting(agent.pid) for agent in self.lab.agents.values())

    def _restarted(self) -> float:
        generation = self.generation()
        return max(life.born for life in self.lab.watcher.lives() if _leads(life, generation))

    def _reason(self) -> str:
        failure: dict[str, Any] | None = self.lab.agents[0].status()["failure"]
        return failure["detail"] if failure else ""


def _watches(pid: int) -> bool:
    """Whether it is the agent's own, which lives as long as the agent."""
    seen = procfs.read_process(pid)
    try:
        named = b"unitagent-watchdog" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return named or (seen is not None and seen.name in ("unit-gate", "unit-waiting"))


def _has_waiting(agent: int) -> bool:
    return any(one.name == "unit-waiting" for one in procfs.find_descendants(agent))


def _leads(life: Life, generation: int) -> bool:
    return life.main and life.generation == generation


def _keep(times: Times) -> None:
    if WHERE in os.environ:
        with Path(os.environ[WHERE]).open("a") as file:
            file.write(json.dumps(asdict(times)) + "\n")
