"""A workload that was forked from a gate, next to one that was executed: nothing that it sees tells them
apart, and what would differ starts cold.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import AS_SUBREAPER, PROGRAMS, Agent
from tests.processes import has_ended
from tests.waiting import until
from unitagent.system import procfs
from unitagent.workload import liveness, warm_gate, warm_process, warm_record
from unitagent.workload.environment import OF_GENERATION, GangInfo, build_environment

Start = Callable[..., Agent]

MIRROR, SPAWNS = str(PROGRAMS / "mirror.py"), str(PROGRAMS / "spawns.py")
VERSIONS = {
    match[1]: path
    for path in (Path(sys.executable), *sorted(Path.home().glob(".pyenv/versions/*/bin/python")))
    if (match := re.search(r"versions/(3\.(?:9|1[0-9]))", str(path.resolve())))
}
_SURROUNDINGS = """
umask 027; ulimit -c 0; ulimit -n 990; trap '' HUP USR2; exec 5</dev/null 7<>/dev/zero; exec nice -n 3 "$@"
"""
STRANGE = ("sh", "-c", _SURROUNDINGS, "sh")


def look(
    start: Start, folder: Path, *argv: str, warm: bool, times: int = 1, **more: Any
) -> list[dict[str, Any]]:
    """What a process and its child see, in each of its lives."""
    seen = folder / ("warm" if warm else "cold")
    seen.mkdir(exist_ok=True)
    mutant = more.pop("mutant", ())
    options = [
        *more.pop("options", ()),
        *(["--warm", "json,decimal", *mutant] if warm else []),
    ]
    agent = start(*options, "--again", str(times - 1), "--", *argv, str(seen), **more)
    code, output = agent.finish(), agent.output()
    assert code == 3, output
    assert [one["warm"] for one in agent.events("start")] == [True] * times * warm, agent.events("start")
    words = sorted(seen.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    found = [json.loads(file.read_text().replace(str(seen), "SEEN")) for file in words]
    for file in words:
        file.unlink()
    agent.events_file.unlink()
    return found


def compare(cold: Any, warm: Any, where: str = "") -> list[str]:
    """Where two answers differ; the mark of the agent does, and random numbers must."""
    if isinstance(cold, dict) and isinstance(warm, dict):
        keys = sorted(cold.keys() | warm.keys())
        return [line for key in keys for line in compare(cold.get(key), warm.get(key), f"{where}.{key}")]
    if isinstance(cold, list) and isinstance(warm, list) and where.endswith("environ_shown"):
        cold, warm = ([one for one in each if "UNIT_AGENT=" not in one] for each in (cold, warm))
    same = cold == warm or where.endswith("UNIT_AGENT") or where == ".random"
    return [] if same else [f"{where}: {cold!r} became {warm!r}"]


OPTIONS: tuple[tuple[str, ...], ...] = ((), ("-u", "-X", "utf8"), ("-I",))
# Of Python and its options the agent knows nothing, so as PID 1 one case is enough.
CASES = [
    pytest.param("subreaper", path, options, id=f"subreaper-{' '.join(options)}-{version}")
    for version, path in VERSIONS.items()
    for options in OPTIONS
]
CASES.append(pytest.param("pid1", Path(sys.executable), (), id="pid1", marks=pytest.mark.root))


@pytest.mark.parametrize(("start", "python", "options"), CASES, indirect=["start"])
def test_nothing_that_a_process_sees_tells_warm_from_cold(
    start: Start, tmp_path: Path, python: Path, options: tuple[str, ...]
) -> None:
    argv = [str(python), *options, MIRROR]
    (cold,) = look(start, tmp_path, *argv, warm=False)
    (warm,) = look(start, tmp_path, *argv, warm=True)
    assert compare(cold, warm) == []


@AS_SUBREAPER
@pytest.mark.parametrize(
    "program",
    [["-m", "mirror"], ["-c", "from mirror import main; main(); raise SystemExit(3)"], ["./mirror.py"]],
)
def test_neither_do_modules_and_text(start: Start, tmp_path: Path, program: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(PROGRAMS), *sys.path))}
    if program[0].startswith("./"):
        program = [os.path.relpath(MIRROR)]
    (cold,) = look(start, tmp_path, sys.executable, *program, warm=False, env=env)
    (warm,) = look(start, tmp_path, sys.executable, *program, warm=True, env=env)
    assert compare(cold, warm) == []


def test_neither_does_a_console_script_in_strange_surroundings(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "a-console-script-with-a-long-name"
    script.write_text(f"#!{sys.executable} -s\n{Path(MIRROR).read_text()}")
    script.chmod(0o755)
    (cold,) = look(start, tmp_path, str(script), warm=False, prefix=STRANGE)
    (warm,) = look(start, tmp_path, str(script), warm=True, prefix=STRANGE)
    assert compare(cold, warm) == []
    assert warm["main"]["comm"] == f"{script.name[:15]}\n"
    assert warm["main"]["nice"] == 3


def test_what_is_random_differs_in_each_life(start: Start, tmp_path: Path) -> None:
    lives = look(start, tmp_path, sys.executable, MIRROR, warm=True, times=3)
    for one in zip(*(life["random"] for life in lives), strict=True):
        assert len(set(one)) == 3


MUTANTS = {
    "the descriptors of the agent stay open": ("if number > 2 and number != link.fileno()", "if False"),
    "the environment is not carried": ("    set_environment(environment)\n", ""),
    "variables that are gone stay": ("        if name not in wanted:", "        if False:"),
    "the mask of files is forgotten": ('    os.umask(job["umask"])\n', ""),
    "limits are forgotten": ("        if resource.getrlimit(number) != tuple(limit):", "        if False:"),
    "the processors are forgotten": ('    if os.sched_getaffinity(0) != set(job["cpus"]):', "    if False:"),
    "the priority is forgotten": ('!= job["nice"]:', '!= job["nice"] and False:'),
    "no group of its own": ('os.setpgid(0, job["group"])  # 0', "pass  # 0"),
    "the command line is the gate's": ("    interpreter.command_line.show(job", "    (lambda *_: None)(job"),
    "ps reads the gate's environment": ("    _libc.prctl(_PR_SET_MM, ", "    (lambda *_: None)("),
    "the name is the gate's": (
        "    _libc.prctl(_PR_SET_NAME, os.fsencode(job",
        "    (lambda *_: None)(os.fsencode(job",
    ),
    "__main__ has a name of the gate's": ("update(blank, **kept)", "update(blank, __gate__=1, **kept)"),
    "ignored signals are forgotten": (
        "        elif number in ignored and not is_ignored:",
        "        elif False:",
    ),
    "signals stay ignored": ("        if is_ignored and number not in ignored:", "        if False:"),
    "the mask of signals is forgotten": ("    signal.pthread_sigmask(signal.SIG_SETMASK, mask)\n", ""),
    "its template is a child like others": ("if _CLONE is None:", "if True:"),
}


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Start harnesses as subreapers, for the time of a block."""
    agents: list[Agent] = []

    def start(*arguments: str, **popen: Any) -> Agent:
        agents.append(Agent(folder, *arguments, **popen))
        return agents[-1]

    try:
        yield start
    finally:
        for agent in agents:
            agent.close()


def look_at_strange(folder: Path, *mutant: str, warm: bool) -> dict[str, Any]:
    """What a process sees in strange surroundings, in which no test is named."""
    env = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    with starting(folder) as start:
        (life,) = look(
            start, folder, sys.executable, MIRROR, warm=warm, prefix=STRANGE, mutant=mutant, env=env
        )
    return life


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return look_at_strange(tmp_path_factory.mktemp("cold"), warm=False)


def test_without_a_mutant_nothing_is_told_apart(tmp_path: Path, cold: dict[str, Any]) -> None:
    assert compare(cold, look_at_strange(tmp_path, warm=True)) == []


@pytest.mark.parametrize("change", MUTANTS.values(), ids=MUTANTS)
def test_each_mutant_of_the_gate_is_told_apart(
    tmp_path: Path, cold: dict[str, Any], change: tuple[str, str]
) -> None:
    try:
        warm = look_at_strange(tmp_path, "--mutant", *change, warm=True)
    except AssertionError:
        return  # it did not even start warm
    assert compare(cold, warm) != []


def test_a_mutant_that_shares_its_seeds_is_told_apart(start: Start, tmp_path: Path) -> None:
    change = ("        process.current_process().authkey = os.urandom(32)\n", "        pass\n")
    lives = look(start, tmp_path, sys.executable, MIRROR, warm=True, times=2, mutant=["--mutant", *change])
    assert lives[0]["random"][-1] == lives[1]["random"][-1]


# What cannot be the same, and what goes wrong


def outcome(agent: Agent, status: int = 3) -> dict[str, Any]:
    """How a workload was started that ended as it should."""
    code, output = agent.finish(), agent.output()
    assert code == status, output
    return agent.event("start")


UNCLEAN = {
    "starts 1 threads": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
    "leave open": "file = open(__file__)",
    "start a process": "import subprocess\nchild = subprocess.Popen(['sleep', '99'])",
    "fails: ValueError": "raise ValueError",
    "fails: SystemExit": "raise SystemExit",
    "imports start a process": "import os, time\n"
    "if os.fork() == 0:\n    os.fork() or time.sleep(99)\n    os._exit(0)\nos.wait()",
    "change cwd": "import os\nos.chdir('/')",
    "change umask": "import os\nos.umask(0o77)",
    "change limits": "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, (99, 990))",
    "change ignored": "import signal\nsignal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    "change mask": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
    "change alarm": "import signal\nsignal.signal(signal.SIGALRM, print)\nsignal.alarm(999)",
    "change argv": "import sys\nsys.argv.append('more')",
    "/dev/null, /dev/null": "files = [open('/dev/null') for _ in range(400)]",
    "/dev/shm": "import mmap, tempfile\nf = tempfile.TemporaryFile(dir='/dev/shm')\nf.truncate(9)\n"  # noqa: S108
    "m = mmap.mmap(f.fileno(), 9)\nf.close()",
}


@AS_SUBREAPER
@pytest.mark.parametrize(("why", "text"), UNCLEAN.items(), ids=UNCLEAN)
def test_imports_that_cannot_be_shared_start_cold(start: Start, tmp_path: Path, why: str, text: str) -> None:
    (tmp_path / "unclean.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    how = outcome(start("--warm", "unclean", "--", sys.executable, "-c", "raise SystemExit(3)", env=env))
    assert not how["warm"]
    assert why.removeprefix("starts ") in how["why"]


IMPORTED = {
    "entries of sys.path before the command's": (
        "import sys\nsys.path.insert(0, '/first')",
        "import sys; import imported; raise SystemExit(3 if sys.path[:2] == ['/first', ''] else sys.path)",
    ),
    "a variable that is gone": (
        "import os\nos.environ.pop('LEFT', None)",
        "import os; import imported; raise SystemExit(os.environ.get('LEFT') or 3)",
    ),
}


@AS_SUBREAPER
@pytest.mark.parametrize(("module", "program"), IMPORTED.values(), ids=IMPORTED)
@pytest.mark.parametrize("warm", [[], ["--warm", "imported"]], ids=["cold", "warm"])
def test_what_imports_change_is_there(
    start: Start, tmp_path: Path, module: str, program: str, warm: list[str]
) -> None:
    (tmp_path / "imported.py").write_text(module)
    env = {**os.environ, "LEFT": "over", "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    agent = start(*warm, "--", sys.executable, "-c", program, env=env)
    code, output = agent.finish(), agent.output()
    assert code == 3, output
    assert not warm or agent.event("start")["warm"]


@AS_SUBREAPER
def test_a_gate_may_print_while_python_starts(start: Start, tmp_path: Path) -> None:
    text = "import sys\nprint('hello', file=sys.stderr, flush=True)\nsys.customized = True"
    (tmp_path / "sitecustomize.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = [sys.executable, "-X", "importtime", "-c", "import sys; raise SystemExit(3 * sys.customized)"]
    assert outcome(start("--warm", "json", "--", *command, env=env))["warm"]


@AS_SUBREAPER
def test_a_report_is_short_however_many_modules_are_absent(start: Start) -> None:
    names = ",".join(f"no_such_module_{number}" for number in range(400))
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    assert outcome(start("--warm", f"json,{names}", *command))["warm"]


@AS_SUBREAPER
def test_the_check_of_threads_is_what_finds_them(start: Start, tmp_path: Path) -> None:
    (tmp_path / "unclean.py").write_text(UNCLEAN["starts 1 threads"])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    mutant = ["--mutant", "if len(tasks) > 1:", "if False:"]
    agent = start("--warm", "unclean", *mutant, "--", sys.executable, "-c", "raise SystemExit(3)", env=env)
    assert outcome(agent)["warm"]


@AS_SUBREAPER
def test_modules_that_are_not_installed_are_passed_over(start: Start) -> None:
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    assert outcome(start("--warm", "no_such_module,json.nor_this,json", *command))["warm"]


@AS_SUBREAPER
def test_without_any_module_the_start_is_cold(start: Start) -> None:
    how = outcome(start("--warm", "no_such_module", "--", sys.executable, "-c", "raise SystemExit(3)"))
    assert "none of its modules is installed" in how["why"]


@pytest.mark.parametrize(
    ("strike", "why"),
    [("waiting:KILL", "SIGKILL"), ("waiting:STOP", "is stopped"), ("gate:KILL", "SIGKILL")],
)
def test_without_a_process_that_waits_the_start_is_cold(start: Start, strike: str, why: str) -> None:
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    how = outcome(start("--warm", "json", "--strike", strike, *command))
    assert not how["warm"]
    assert why in how["why"]


def test_a_workload_that_ends_before_the_next_fork_is_announced_does_not_take_it_along(start: Start) -> None:
    announce = '    link.send(answer or b"it ended")'
    late = ("--mutant", announce, f"    time.sleep(0.5)\n{announce}")
    agent = start("--warm", "json", *late, "--again", "2", "--", sys.executable, "-c", "raise SystemExit(3)")
    outcome(agent)
    assert [how["why"] for how in agent.events("start")] == [""] * 3


def test_a_gate_that_hangs_costs_the_start_after_next_its_warmth(start: Start) -> None:
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    agent = start("--warm", "json", "--strike", "gate:STOP", "--again", "1", *command)
    outcome(agent)
    assert [how["warm"] for how in agent.events("start")] == [True, False]


@AS_SUBREAPER
def test_a_file_that_has_changed_since_its_import_starts_cold(start: Start, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    how = outcome(start("--warm", "changing", "--touch", str(module), *command, env=env))
    assert how["why"] == f"{module} has changed since it was imported"


@AS_SUBREAPER
def test_the_stamps_of_files_are_what_finds_changes(start: Start, tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    mutant = ["--mutant", "if changed := interpreter.find_changed_file():", "if changed := '':"]
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    assert outcome(start("--warm", "changing", "--touch", str(module), *mutant, *command, env=env))["warm"]


def test_after_two_failures_there_are_no_more_gates(start: Start) -> None:
    command = ["--", sys.executable, "-c", "raise SystemExit(3)"]
    agent = start("--warm", "json", "--strike", "waiting:KILL", "--again", "3", *command)
    outcome(agent)
    assert [how["warm"] for how in agent.events("start")] == [False] * 4
    assert agent.event("start")["why"].startswith("warm start is off after 2 failures: ")
    assert agent.event("settled")["gate"] is None


# What multiprocessing spawns


@pytest.mark.parametrize("how", ["threads", "nested", "pool"])
def test_children_come_from_templates(start: Start, how: str) -> None:
    agent = start("--warm", "json", "--", sys.executable, SPAWNS, how)
    assert outcome(agent, 0)["warm"]
    assert agent.output()[1] == ""


@AS_SUBREAPER
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("many", "it hands on 30. descriptors"),
        ("elsewhere", "stdout or stderr leads elsewhere"),
        ("preload", "LD_PRELOAD differs"),
        ("killed", "ended|Broken pipe|reset"),
        ("stopped", "timed out"),
        ("fork", "it is a fork of a process"),
        ("score", "oom_score_adj is"),
    ],
)
def test_a_child_that_would_differ_is_spawned_cold(start: Start, how: str, why: str) -> None:
    agent = start("--warm", "json", "--", sys.executable, SPAWNS, how)
    assert outcome(agent, 0)["warm"]
    assert re.search(f"unitagent: process .* spawns cold: .*({why})", agent.output()[1])
    assert not agent.events("sick")


def test_a_killed_template_is_no_dead_process_of_the_workload(start: Start) -> None:
    agent = start("--warm", "json", "--", sys.executable, SPAWNS, "lives-on")
    agent.says("killed")
    seen = len(agent.events("look"))
    until(lambda: len(agent.events("look")) > seen + 60, "it was looked for")
    agent.send(signal.SIGTERM)
    agent.finish()
    assert not agent.events("sick")


def test_nothing_is_left_but_the_gate_and_nothing_of_that_after_the_agent(start: Start) -> None:
    agent = start("--warm", "json", "--", sys.executable, SPAWNS, "waits")
    agent.says("ready")
    agent.send(signal.SIGTERM)
    agent.finish()
    stopped = agent.event("stopped")
    assert (stopped["stuck"], stopped["left"]) == (None, [])
    if not agent.pid1:
        gate = agent.event("settled")["gate"]
        until(lambda: has_ended(gate), "the gate has ended")


def test_a_killed_agent_takes_its_gate_along(tmp_path: Path) -> None:
    agent = Agent(tmp_path, "--warm", "json", "--", sys.executable, "-c", "import time; time.sleep(99)")
    try:
        agent.event("start")
        gate = agent.event("settled")["gate"]
        until(lambda: len(procfs.find_descendants(gate)) == 0, "it has forked the next one")
        os.kill(agent.pid, signal.SIGKILL)
        until(lambda: has_ended(gate), "the gate has ended")
        main = procfs.read_process(agent.event("spawned")["pid"])
        assert main is not None
        procfs.kill_process(main)
    finally:
        agent.close()


def test_both_sides_have_the_same_name_of_a_template() -> None:
    assert liveness.TEMPLATE == warm_gate.TEMPLATE


def test_only_variables_of_a_generation_differ_between_two() -> None:
    def make(generation: int, leader: str) -> dict[str, str]:
        gang = GangInfo(
            rank=1, size=2, unit="u", generation=generation, rank_ip="10.0.0.2", comm_ifname="eth0",
            master_address=leader, master_port=1000 + generation, rank_ips=(leader, "10.0.0.2"), marker="m",
            keeper=(generation, 2000 + generation),
        )  # fmt: skip
        return build_environment({}, gang)

    one, other = make(1, "10.0.0.1"), make(2, "10.0.0.9")
    assert {name for name, _ in one.items() ^ other.items()} == OF_GENERATION


def test_the_gate_needs_nothing_but_the_standard_library() -> None:
    allowed = [
        "from unitagent.workload.warm_process import (",
        "from unitagent.workload.warm_record import Record",
    ]
    for module in (warm_gate, warm_process, warm_record):
        lines = Path(str(module.__file__)).read_text().splitlines()
        ours = [line for line in lines if re.match(r"\s*(from|import) unitagent", line)]
        assert ours == (allowed if module is warm_gate else [])
