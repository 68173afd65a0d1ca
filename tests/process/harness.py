"""An agent of one: the workload room wired together without a store, for tests of real processes.

``python -m tests.process.harness [options] -- COMMAND`` writes what happens to ``--events`` as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unitagent.core.exits import Exit
from unitagent.errors import CommandError
from unitagent.system import procfs
from unitagent.workload import command, environment, leftovers, signals, warm_gate_client
from unitagent.workload.exec_probe import ExecProbe
from unitagent.workload.lifecycle import Workload
from unitagent.workload.output import OutputCapture
from unitagent.workload.reaper import Reaper
from unitagent.workload.signals import Terminal
from unitagent.workload.warm_start import WarmStarter


def measure(pid: int) -> dict[str, int]:
    """Descriptors, threads and KiB of memory (PSS, without files) of a process."""
    place = Path("/proc", str(pid))
    rollup = dict(line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:])
    memory = sum(int(rollup[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem"))
    files, threads = (len(list((place / name).iterdir())) for name in ("fd", "task"))
    return {"memory": memory, "files": files, "threads": threads}


def call_libc(name: str, *arguments: int) -> None:
    assert getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == 0, os.strerror(ctypes.get_errno())


CHANGES: dict[str, Callable[[], object]] = {
    "group": lambda: os.setresgid(65534, 65534, 65534),
    "groups": lambda: os.setgroups([65534]),
    "privileges": lambda: call_libc("prctl", 38, 1, 0, 0, 0),  # PR_SET_NO_NEW_PRIVS
    "network": lambda: call_libc("unshare", 0x40000000),
    "mounts": lambda: call_libc("unshare", 0x00020000),
    "hostname": lambda: call_libc("unshare", 0x04000000),
    "score": lambda: Path("/proc/self/oom_score_adj").write_text("321"),
    "scheduler": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=Path, default=Path(os.devnull))
    parser.add_argument("--unit", default="harness")
    parser.add_argument("--grace", type=float, default=20.0)
    parser.add_argument("--kill-seconds", type=float, default=10.0)
    parser.add_argument("--gpus", default="/dev/nvidia", help="how the paths of devices begin")
    parser.add_argument("--ports", type=int, nargs="*", default=(), help="meant for the workload alone")
    parser.add_argument("--release-seconds", type=float, default=0.5)
    parser.add_argument("--oom-seconds", type=float, default=10.0)
    parser.add_argument("--service", help="a shell command to run as a service child")
    parser.add_argument("--vital", action="append", default=[], help="beginning of a name that it needs")
    parser.add_argument("--exec-probe", help="a command line to run again and again beside the workload")
    parser.add_argument("--exec-probe-seconds", type=float, default=20.0)
    parser.add_argument("--inherit-stderr", action="store_true")
    parser.add_argument("--relay-stdout", action="store_true")
    parser.add_argument("--usage", action="store_true", help="tell what its processes use once they run")
    parser.add_argument("--warm", type=lambda text: text.split(","), help="modules of a gate to start from")
    parser.add_argument(
        "--strike", help="gate or waiting, a colon, and a signal to send it before each start"
    )
    parser.add_argument(
        "--change", choices=CHANGES, help="something of the agent to change before the first start"
    )
    parser.add_argument("--enter", type=Path, help="a control group to enter before the first start")
    parser.add_argument("--append", default="# changed", help="what is appended by --touch")
    parser.add_argument("--first", type=json.loads, help="the command that the first gate is built for")
    parser.add_argument("--touch", type=Path, help="a file to change before each start")
    parser.add_argument("--mutant", nargs=2, metavar=("OLD", "NEW"), help="a change of the gate's source")
    parser.add_argument(
        "--blame", type=int, default=0, help="the start that has failed; the others are ready"
    )
    parser.add_argument("--again", type=int, default=0, help="run the command so many times more")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _choose_captured(options: argparse.Namespace) -> list[int]:
    return [1] * options.relay_stdout + [2] * (not options.inherit_stderr)


class Harness:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.born = signals.read_inherited_signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.BLOCKED)  # before there is a second thread
        self.reaper = Reaper()
        self.stop_asked = asyncio.Event()
        self.starts = 0
        if options.mutant:
            self.mutate_gate(*options.mutant)
        self.service = 0
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.warm = (
            WarmStarter(self.reaper, self.born, captured=_choose_captured(options), answer_seconds=30.0)
            if options.warm
            else None
        )
        if self.warm is not None and options.mutant:
            self.warm._read_record = lambda: None  # type: ignore[method-assign]  # so the gate stays the same
        self.workload = Workload(
            self.reaper,
            self.born,
            warm=self.warm,
            on_exit=self.on_exit,
            output=OutputCapture(_choose_captured(options)),
            kill_seconds=options.kill_seconds,
            release_seconds=options.release_seconds,
            oom_seconds=options.oom_seconds,
            gpus=options.gpus,
        )

    def tell(self, name: str, **facts: Any) -> None:
        with self.options.events.open("a") as file:
            file.write(json.dumps({"event": name, **facts}) + "\n")

    def on_exit(self, ended: Exit, tail: list[str]) -> None:
        self.tell("exit", status=ended.status, reason=ended.reason, said=ended.describe_exit(), tail=tail)
        self.exited.set_result(ended)

    def on_stop(self, _number: int) -> None:
        if self.stop_asked.is_set():
            self.workload.force_stop()
        self.stop_asked.set()

    async def run(self) -> int:
        self.reaper.start_reaping()
        signals.install_handlers(self.born, on_stop=self.on_stop, forward=self.workload.send_signal)
        if self.options.service:
            self.serve()
        status = await self.once()
        for _ in range(self.options.again):
            self.exited = asyncio.get_running_loop().create_future()
            status = await self.once()
        await self.workload.close()
        if self.warm is not None:
            self.warm.close()
        if self.service in self.reaper.services:
            os.killpg(self.service, signal.SIGKILL)
        self.reaper.close()
        return status

    def serve(self) -> None:
        child = subprocess.Popen(["/bin/sh", "-c", self.options.service], process_group=0)
        self.service = child.pid
        self.reaper.watch_child(
            child.pid, lambda ended: self.tell("service", status=ended.status), service=True
        )
        child.returncode = 0  # so that Popen's own housekeeping never waits for it

    async def disturb(self, warm: WarmStarter) -> None:
        gate = warm._gate
        plan = gate and {"late": gate.plan.late, "learned": sorted(gate.plan.learned)}
        self.tell("settled", gate=gate and gate.pid, waiting=gate and gate.waiting, **(plan or {}))
        if gate is not None and gate.waiting is not None:
            self.tell("use", gate=gate.pid, agent=measure(os.getpid()), **measure(gate.pid))
        if self.options.touch:
            self.options.touch.write_text(f"{self.options.touch.read_text()}{self.options.append}\n")
        if self.options.change and not self.starts:
            CHANGES[self.options.change]()
        if self.options.enter and not self.starts:
            (self.options.enter / "cgroup.procs").write_text(str(os.getpid()))
        if self.options.strike and gate is not None and gate.waiting is not None:
            who, _, what = self.options.strike.partition(":")
            os.kill(getattr(gate, {"gate": "pid"}.get(who, who)), signal.Signals[f"SIG{what}"])
            await asyncio.sleep(0.3)

    def mutate_gate(self, old: str, new: str) -> None:
        load = warm_gate_client._load_code

        def load_mutant() -> bytes:
            modules = json.loads(load())
            assert sum(source.count(old) for _, source in modules) == 1, old
            return json.dumps([(name, source.replace(old, new)) for name, source in modules]).encode()

        warm_gate_client._load_code = load_mutant

    async def look_inside(self) -> None:
        while (dead := await self.workload.find_dead_process()) is None:
            self.tell("look")
            await self.workload.wait_for_death(0.05)
        self.tell("sick", said=dead.describe_death())

    async def run_errands(self, env: Mapping[str, str]) -> None:
        exec_probe = ExecProbe(self.reaper, self.born, shlex.split(self.options.exec_probe), env)
        while True:
            self.tell("exec_probe", said=await exec_probe.run(self.options.exec_probe_seconds))
            await asyncio.sleep(0.01)

    async def once(self) -> int:
        gang = environment.GangInfo(
            rank=0, size=1, unit=self.options.unit, generation=1, rank_ip="127.0.0.1", comm_ifname="lo",
            master_address="127.0.0.1", master_port=29500, rank_ips=("127.0.0.1",),
            marker=leftovers.make_marker("harness"),
        )  # fmt: skip
        env = environment.build_environment(os.environ, gang)
        argv = environment.fill_placeholders(command.check_command(self.options.command, env), env)
        if self.warm is not None:
            first, more = self.options.first if self.options.first and not self.starts else (argv, {})
            self.warm.prepare(first or argv, {**env, **more}, self.options.warm)
            await self.warm.wait_until_settled(60.0)
            await self.disturb(self.warm)
        pid = self.workload.spawn_command(argv, env, self.options.vital, ports=self.options.ports)
        self.tell("spawned", pid=pid)
        if self.warm is not None and self.warm.report is not None:
            self.tell("start", warm=self.warm.report.warm, why=self.warm.report.why)
            self.starts += 1
            if self.options.blame == self.starts:
                self.warm.note_failure()
            elif self.options.blame:
                self.warm.confirm_ready()
        if self.options.usage:
            self.tell("usage", processes=[asdict(one) for one in await self.workload.sample_usage()])
        asked = asyncio.create_task(self.stop_asked.wait())
        beside = [asyncio.create_task(self.look_inside())]
        if self.options.exec_probe:
            beside.append(asyncio.create_task(self.run_errands(env)))
        await asyncio.wait((asked, self.exited), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for task in beside:
            task.cancel()
        began = time.monotonic()
        self.tell("stopping")
        stuck = await self.workload.stop(self.options.grace)
        left = procfs.select_descendants(procfs.read_process_table(), os.getpid(), self.reaper.services)
        self.tell(
            "stopped",
            stuck=stuck and stuck.why,
            left=[process.name for process in left],
            services=len(self.reaper.services),
            strangers=self.reaper.orphans_reaped,
            foreground=Terminal().is_ours,
            seconds=time.monotonic() - began,
        )
        return (await self.exited).status if stuck is None else 99


async def main() -> int:
    return await Harness(_options()).run()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except CommandError as error:
        print(f"unitagent: error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
