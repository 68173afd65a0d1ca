"""When the next start is prepared, and which failures a warm start is blamed for; with a stand-in for what
starts processes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.core.unit import Unit
from unitagent.agent.launch import Launch
from unitagent.agent.warm_starts import WarmStartScheduler
from unitagent.core.model import Reason
from unitagent.core.state import State, make_failure
from unitagent.workload.warm_gate_client import GatePlan
from unitagent.workload.warm_start import StartReport, WarmStarter

if TYPE_CHECKING:
    from unitagent.workload.python_command import PythonCommand

LAUNCH = Launch(["python3", "x.py"], {"A": "1"}, {}, None, None, warm_modules=("json",))


class Starter:
    """Notes what it is asked to do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.report: StartReport | None = None

    def prepare(self, argv: list[str], env: dict[str, str], modules: tuple[str, ...]) -> None:
        assert (argv, env, modules) == (LAUNCH.argv, LAUNCH.env, LAUNCH.warm_modules)
        self.did.append("prepare")

    def confirm_ready(self) -> None:
        self.did.append("confirm")

    def note_failure(self) -> None:
        self.did.append("blame")

    def observe_children(self, pids: list[int]) -> None:
        self.did.append(f"observe {pids}")


@pytest.fixture
def starter() -> Starter:
    return Starter()


@pytest.fixture
def warm(starter: Starter) -> WarmStartScheduler:
    return WarmStartScheduler(cast("Any", starter))


def unready(unit: Unit) -> State:
    """Rank 0, whose Unit does not serve yet."""
    state = unit.agents[0]
    return state.with_shutdown(requested_at=1.0)


def test_the_next_start_is_prepared_once_the_unit_is_ready(
    warm: WarmStartScheduler, starter: Starter
) -> None:
    unit = Unit(2, guard=True).formed()
    warm.observe_step(unready(unit), LAUNCH)
    assert starter.did == []
    for _ in range(3):
        warm.observe_step(unit.agents[0], LAUNCH)
    assert starter.did == ["confirm", "prepare"]


@pytest.mark.parametrize(("rank", "blamed"), [(0, ["blame"]), (1, [])])
def test_only_an_instances_own_failure_is_blamed(
    warm: WarmStartScheduler, starter: Starter, rank: int, blamed: list[str]
) -> None:
    state = unready(Unit(2, guard=True).formed())
    failed = state.with_recovery(failure=make_failure(state, rank, Reason.EXIT, "it ended"))
    for _ in range(3):
        warm.observe_step(failed, LAUNCH)
    assert starter.did == blamed


def test_a_failure_after_it_was_ready_is_nobodys_fault(warm: WarmStartScheduler, starter: Starter) -> None:
    state = Unit(2, guard=True).formed().agents[0]
    warm.observe_step(state, LAUNCH)
    starter.did.clear()
    warm.observe_step(state.with_recovery(failure=make_failure(state, 0, Reason.EXIT, "it ended")), LAUNCH)
    assert starter.did == []


async def _learn(warm: WarmStartScheduler) -> None:
    await warm.learn_environment(lambda: [7])


@pytest.mark.parametrize(
    ("report", "observed"),
    [(None, []), (StartReport(warm=True), []), (StartReport(warm=False, why="x"), ["observe [7]"])],
)
def test_the_environment_is_learned_from_cold_starts(
    warm: WarmStartScheduler, starter: Starter, report: StartReport | None, observed: list[str]
) -> None:
    import asyncio  # noqa: PLC0415

    starter.report = report
    warm.observe_step(unready(Unit(2, guard=True).formed()), LAUNCH)
    asyncio.run(_learn(warm))
    assert starter.did == observed


def make_plan(command: PythonCommand, **learned: str) -> GatePlan:
    return GatePlan(command, ("json",), {"UNIT_AGENT": "mark", "A": "1"}, learned)


def test_a_gate_has_the_environment_of_those_that_do_the_work() -> None:
    from unitagent.workload.python_command import resolve_python  # noqa: PLC0415

    command = resolve_python(["python3.11", "x.py"], {"PATH": "/usr/bin:/usr/local/bin"})
    assert make_plan(command).choose_environment() == {"UNIT_AGENT": "mark", "A": "1"}
    learned = make_plan(command, B="2", MASTER_PORT="3", UNIT_AGENT="mark").choose_environment()
    assert list(learned.items()) == [("UNIT_AGENT", "mark"), ("B", "2")]
    plan = make_plan(command)
    assert plan.explain_mismatch(command, {"UNIT_AGENT": "mark", "A": "1", "MASTER_PORT": "9"}) == ""
    assert "variable A" in plan.explain_mismatch(command, {"UNIT_AGENT": "mark", "A": "2"})
    other = replace(command, target="y.py")
    assert "target" in plan.explain_mismatch(other, {"UNIT_AGENT": "mark", "A": "1"})
    options = replace(command, words=("python3.11", "-u", "x.py"), options=2)
    assert "options" in plan.explain_mismatch(options, {"UNIT_AGENT": "mark", "A": "1"})


def make_starter() -> WarmStarter:
    return WarmStarter(cast("Any", None), cast("Any", None))


def test_two_failures_in_a_row_end_it_and_a_success_between_them_does_not() -> None:
    starter = make_starter()
    for _ in range(5):
        starter._proven = False  # started warm
        starter.note_failure()
        starter._proven = False
        starter.confirm_ready()
    assert starter._failures == 0
    for _ in range(2):
        starter._proven = False
        starter.note_failure()
    assert starter.start_process(["python3"], {}, {}) is None
    assert starter.report is not None
    assert starter.report.why.startswith("warm start is off after 2 failures: a workload")
