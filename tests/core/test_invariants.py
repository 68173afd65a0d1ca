"""A check that cannot fail proves nothing: for each invariant a state that breaks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.core.unit import Unit
from unitagent.core.actions import Action
from unitagent.core.events import StopRequested
from unitagent.core.exits import ExitCode
from unitagent.core.invariants import INVARIANTS, ContradictionError, check_invariants
from unitagent.core.model import Charge, Failure, Gang, InstanceState, Reason
from unitagent.core.state import State, find_stage, update_record
from unitagent.core.state_parts import Leaving, WorkloadPhase

FAILURE = Failure(generation=1, rank=1, ip="", reason=Reason.EXIT)
STRANGERS = Gang(generation=1, incarnations=("x", "y"), ips=("", ""), master_port=1)
LEAVING = Leaving(0, "")

BROKEN: dict[str, Callable[[State], State]] = {
    "an agent knows of the generation that it stands in": lambda s: replace(s, generation=0),
    "its record has the rank, size and incarnation that it was given": lambda s: update_record(s, rank=0),
    "a workload lives only in the gang of the generation that its agent stands in": lambda s: update_record(
        s, generation=2
    ),
    "a gang has as many members as the Unit": lambda s: s.with_workload(gang=replace(STRANGERS, ips=())),
    "an agent is a member of its own gang": lambda s: s.with_workload(gang=STRANGERS),
    "a record says started only while the workload is alive": lambda s: s.with_workload(
        phase=WorkloadPhase.STOPPING
    ),
    "a record of a living workload says started": lambda s: update_record(s, state=InstanceState.EXITED),
    "a record says idle at the barrier": lambda s: s.with_workload(gang=None),
    "a record says idle only before its generation starts": lambda s: update_record(
        s, state=InstanceState.IDLE
    ),
    "an agent that never held its rank has no gang and no generation": lambda s: s.with_store(joined_at=None),
    "an agent that holds its rank has seen the store": lambda s: s.with_store(ever_answered=False),
    "a record is on its way only with an exchange": lambda s: s.with_store(in_flight=False, exchanging=s.me),
    "only an agent that held or claimed its rank loses it to another incarnation": lambda s: s.with_store(
        joined_at=None
    ).with_shutdown(leaving=Leaving(ExitCode.FENCED, "")),
    "an agent that holds its rank has a tenure": lambda s: update_record(s, tenure=0),
    "what the store has of an agent's record is no newer than its own": lambda s: s.with_store(
        published=update_record(s, restarts=1).me
    ),
    "each restart is charged once, and no more of them are kept than fit into a record": lambda s: (
        update_record(s, charges=(Charge(generation=1, at=1.0),) * 2)
    ),
    "no agent takes itself for another one that answered": lambda s: s.with_peers(
        known_alive_at={s.me.incarnation: 1.0}
    ),
    "a workload without its main process is being stopped": lambda s: s.with_workload(
        phase=WorkloadPhase.MAIN_EXITED
    ),
    "a workload is given a finite time to end": lambda s: s.with_workload(grace=float("inf")),
    "a workload that is cut off is being stopped, or gone": lambda s: s.with_workload(isolated=True),
    "a workload that is cut off gets no time to end": lambda s: s.with_workload(isolated=True, grace=1.0),
    "an agent drains only the gang that it belongs to": lambda s: s.with_shutdown(
        draining_since=1.0
    ).with_workload(gang=None),
    "only rank 0, and only in a drain, waits for requests in flight": lambda s: s.with_shutdown(
        awaiting_drain=True
    ),
    "a record says asked exactly when its agent was asked to stop": lambda s: update_record(
        s, stop_requested=True
    ),
    "no agent hurries without being asked to stop": lambda s: s.with_shutdown(force_stop=True),
    "an agent that was asked to stop and has no workload leaves": lambda s: s.with_shutdown(
        requested_at=1.0
    ).with_workload(phase=WorkloadPhase.GONE),
    "the workload of an agent that leaves is being stopped, or gone": lambda s: s.with_shutdown(
        leaving=LEAVING
    ),
    "a record says left only when its agent leaves and has neither workload nor keeper": lambda s: (
        update_record(s, has_left=True)
    ),
    "an agent whose job is complete leaves": lambda s: s.with_shutdown(completed=True),
    "only other members of the gang are presumed lost": lambda s: s.with_peers(presumed_lost={1: "itself"}),
    "each open question has a time before which it is not asked again": lambda s: s.with_peers(
        awaiting_answer=frozenset({0}), ask_again_at={}
    ),
    "a failure of its own does not leave a generation as it is": lambda s: s.with_workload(
        pending_failure=FAILURE
    ),
    "what is yet to be stored is there": lambda s: s.with_recovery(failure=None, failure_stored=False),
    "no end of a generation is counted before that generation": lambda s: s.with_recovery(
        counted_generation=9
    ),
    "a record says what became of the keeper": lambda s: replace(s, config=replace(s.config, keepers=True)),
    "a keeper that is not gone is one of a gang": lambda s: s.with_keeper(phase=WorkloadPhase.ALIVE),
    "a keeper that is ready lives": lambda s: s.with_keeper(ready=True),
    "a keeper without its main process is being stopped": lambda s: s.with_keeper(
        gang=STRANGERS, phase=WorkloadPhase.MAIN_EXITED
    ),
    "a workload runs beside no other keeper than the one that its gang uses": lambda s: s.with_workload(
        gang=replace(s.workload.gang or STRANGERS, keepers="1:1:x")
    ).with_keeper(gang=STRANGERS, phase=WorkloadPhase.ALIVE),
}


@pytest.fixture(scope="module")
def running() -> State:
    """Rank 1 of a Unit that serves."""
    return Unit(2, guard=True).formed().agents[1]


def test_each_has_an_example() -> None:
    assert [sentence for _, sentence in INVARIANTS] == list(BROKEN)


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_contradiction_is_found(running: State, sentence: str) -> None:
    check_invariants(running)
    broken = BROKEN[sentence](running)
    assert sentence in [told for holds, told in INVARIANTS if not holds(broken)]
    with pytest.raises(ContradictionError, match="not true that"):
        check_invariants(broken)


def test_the_stages_of_a_life() -> None:
    seen: list[str] = []

    class Watched(Unit):
        def stepped(self, before: State, after: State, actions: tuple[Action, ...]) -> None:
            if after.config.rank == 1 and find_stage(after) not in seen[-1:]:
                seen.append(find_stage(after))

    unit = Watched(2, guard=True, backoff=(0.0,))
    unit.create(1)
    unit.create(0)
    unit.wait(1.5)  # they have seen each other beat
    unit.slow = {1}
    unit.crash(0)
    unit.finish(1)
    assert seen == ["joining", "at-barrier", "running", "stopping", "at-barrier", "running"]
    unit.wait(1)
    unit.slow = set()
    unit.tell(1, StopRequested)
    unit.wait(30)
    assert seen[-2:] == ["draining", "leaving"]
