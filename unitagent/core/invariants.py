"""What is true of an agent's state after every step. The simulator and the tests check it after each
one; production does not, since an agent with a contradiction in its state serves better than a dead
one.
"""

from __future__ import annotations

from collections.abc import Callable

from unitagent.core.keepers import set_keeper
from unitagent.core.model import InstanceState
from unitagent.core.restart_budget import MOST_CHARGES
from unitagent.core.state import Stage, State, find_stage
from unitagent.core.state_parts import WorkloadPhase


class ContradictionError(AssertionError):
    """A state says two things that cannot both be true."""


def check_invariants(state: State) -> None:
    """Look for a contradiction.

    Raises:
        ContradictionError: There is one; a defect of this program, never caused by input.

    """
    for holds, sentence in INVARIANTS:
        if not holds(state):
            raise ContradictionError(
                f"rank {state.config.rank}, {find_stage(state)}: not true that {sentence}"
            )


def _knows_its_own_generation(state: State) -> bool:
    return state.generation >= state.me.generation


def _is_itself(state: State) -> bool:
    me, config = state.me, state.config
    return (me.rank, me.size, me.incarnation) == (config.rank, config.size, config.incarnation)


def _workload_has_gang(state: State) -> bool:
    return state.in_gang or not state.up


def _gang_is_whole(state: State) -> bool:
    gang = state.workload.gang
    return gang is None or len(gang.incarnations) == len(gang.ips) == state.config.size


def _is_in_own_gang(state: State) -> bool:
    gang = state.workload.gang
    return gang is None or gang.incarnations[state.config.rank] == state.me.incarnation


def _started_lives(state: State) -> bool:
    return not state.me.state.started or state.workload.phase is WorkloadPhase.ALIVE


def _alive_started(state: State) -> bool:
    return state.workload.phase is not WorkloadPhase.ALIVE or state.me.state.started


def _idle_at_the_barrier(state: State) -> bool:
    return find_stage(state) is not Stage.AT_BARRIER or state.me.state is InstanceState.IDLE


def _idle_before_its_start(state: State) -> bool:
    return state.me.state is not InstanceState.IDLE or not (state.in_gang or state.up)


def _nothing_before_joining(state: State) -> bool:
    return state.joined or (state.workload.gang is None and state.me.generation == 0)


def _shows_what_it_joined(state: State) -> bool:
    return state.store.ever_answered or not state.joined


def _exchanges_one_record(state: State) -> bool:
    return state.store.exchanging is None or state.store.in_flight


def _fenced_had_a_rank(state: State) -> bool:
    return not state.fenced or state.joined or state.config.claimed


def _has_tenure(state: State) -> bool:
    return not state.joined or state.me.tenure > 0


def _published_is_no_newer(state: State) -> bool:
    published = state.store.published
    return published is None or published.edition <= state.me.edition


def _charged_once(state: State) -> bool:
    generations = [charge.generation for charge in state.me.charges]
    return generations == sorted(set(generations)) and len(generations) <= MOST_CHARGES


def _reached_itself(state: State) -> bool:
    return state.me.incarnation not in state.barrier.reached_at.keys() | state.peers.known_alive_at.keys()


def _main_process_over_is_stopped(state: State) -> bool:
    return state.workload.phase is not WorkloadPhase.MAIN_EXITED


def _no_grace_without_end(state: State) -> bool:
    return 0.0 <= state.workload.grace < float("inf")


def _cut_off_has_stopped(state: State) -> bool:
    work = state.workload
    return not work.isolated or (state.in_gang and work.phase in (WorkloadPhase.STOPPING, WorkloadPhase.GONE))


def _cut_off_has_no_grace(state: State) -> bool:
    return not state.workload.isolated or not state.up or state.workload.grace == 0.0


def _drains_its_gang(state: State) -> bool:
    return not state.shutdown.draining or state.in_gang


def _drain_in_order(state: State) -> bool:
    shutdown = state.shutdown
    return not shutdown.awaiting_drain or (shutdown.draining and state.config.rank == 0)


def _says_that_it_was_asked(state: State) -> bool:
    return state.me.stop_requested == state.shutdown.stop_requested


def _has_reason_to_hurry(state: State) -> bool:
    return state.shutdown.stop_requested or not state.shutdown.force_stop


def _asked_without_workload_leaves(state: State) -> bool:
    return not state.shutdown.stop_requested or state.up or state.shutdown.leaving is not None


def _leaving_ends_the_workload(state: State) -> bool:
    return state.shutdown.leaving is None or state.workload.phase in (
        WorkloadPhase.STOPPING,
        WorkloadPhase.GONE,
    )


def _left_for_good(state: State) -> bool:
    return not state.me.has_left or (state.shutdown.leaving is not None and not state.occupied)


def _completed_is_leaving(state: State) -> bool:
    return not state.shutdown.completed or state.shutdown.leaving is not None


def _presumes_only_members_lost(state: State) -> bool:
    others = set(range(state.config.size)) - {state.config.rank}
    return not state.peers.presumed_lost or (state.in_gang and set(state.peers.presumed_lost) <= others)


def _asks_now_and_then(state: State) -> bool:
    return set(state.peers.awaiting_answer) <= set(state.peers.ask_again_at)


def _own_failure_moves_on(state: State) -> bool:
    staying = state.in_gang and find_stage(state) not in (Stage.DRAINING, Stage.LEAVING)
    return state.workload.pending_failure is None or not staying


def _unstored_failure_exists(state: State) -> bool:
    return state.recovery.failure_stored or state.recovery.failure is not None


def _counts_no_future(state: State) -> bool:
    recovery = state.recovery
    return max(recovery.counted_generation, recovery.timestamps.generation) <= state.generation


def _publishes_its_keeper(state: State) -> bool:
    return not state.config.keepers or set_keeper(state) == state


def _keeper_has_gang(state: State) -> bool:
    return (state.keeper.gang is None) == (state.keeper.phase is WorkloadPhase.GONE)


def _ready_keeper_lives(state: State) -> bool:
    return not state.keeper.ready or state.keeper.phase is WorkloadPhase.ALIVE


def _keeper_over_is_stopped(state: State) -> bool:
    return state.keeper.phase is not WorkloadPhase.MAIN_EXITED


def _uses_its_keeper(state: State) -> bool:
    """Whether a workload that was told to use keepers started while its own was ready; it may end later."""
    gang, mine = state.workload.gang, state.keeper.gang
    started = state.up and gang is not None and bool(gang.keepers)
    return not started or gang is None or mine is None or mine.id == gang.keepers


Invariant = Callable[[State], bool]

INVARIANTS: tuple[tuple[Invariant, str], ...] = (
    (_knows_its_own_generation, "an agent knows of the generation that it stands in"),
    (_is_itself, "its record has the rank, size and incarnation that it was given"),
    (_workload_has_gang, "a workload lives only in the gang of the generation that its agent stands in"),
    (_gang_is_whole, "a gang has as many members as the Unit"),
    (_is_in_own_gang, "an agent is a member of its own gang"),
    (_started_lives, "a record says started only while the workload is alive"),
    (_alive_started, "a record of a living workload says started"),
    (_idle_at_the_barrier, "a record says idle at the barrier"),
    (_idle_before_its_start, "a record says idle only before its generation starts"),
    (_nothing_before_joining, "an agent that never held its rank has no gang and no generation"),
    (_shows_what_it_joined, "an agent that holds its rank has seen the store"),
    (_exchanges_one_record, "a record is on its way only with an exchange"),
    (_fenced_had_a_rank, "only an agent that held or claimed its rank loses it to another incarnation"),
    (_has_tenure, "an agent that holds its rank has a tenure"),
    (_published_is_no_newer, "what the store has of an agent's record is no newer than its own"),
    (_charged_once, "each restart is charged once, and no more of them are kept than fit into a record"),
    (_reached_itself, "no agent takes itself for another one that answered"),
    (_main_process_over_is_stopped, "a workload without its main process is being stopped"),
    (_no_grace_without_end, "a workload is given a finite time to end"),
    (_cut_off_has_stopped, "a workload that is cut off is being stopped, or gone"),
    (_cut_off_has_no_grace, "a workload that is cut off gets no time to end"),
    (_drains_its_gang, "an agent drains only the gang that it belongs to"),
    (_drain_in_order, "only rank 0, and only in a drain, waits for requests in flight"),
    (_says_that_it_was_asked, "a record says asked exactly when its agent was asked to stop"),
    (_has_reason_to_hurry, "no agent hurries without being asked to stop"),
    (_asked_without_workload_leaves, "an agent that was asked to stop and has no workload leaves"),
    (_leaving_ends_the_workload, "the workload of an agent that leaves is being stopped, or gone"),
    (_left_for_good, "a record says left only when its agent leaves and has neither workload nor keeper"),
    (_completed_is_leaving, "an agent whose job is complete leaves"),
    (_presumes_only_members_lost, "only other members of the gang are presumed lost"),
    (_asks_now_and_then, "each open question has a time before which it is not asked again"),
    (_own_failure_moves_on, "a failure of its own does not leave a generation as it is"),
    (_unstored_failure_exists, "what is yet to be stored is there"),
    (_counts_no_future, "no end of a generation is counted before that generation"),
    (_publishes_its_keeper, "a record says what became of the keeper"),
    (_keeper_has_gang, "a keeper that is not gone is one of a gang"),
    (_ready_keeper_lives, "a keeper that is ready lives"),
    (_keeper_over_is_stopped, "a keeper without its main process is being stopped"),
    (_uses_its_keeper, "a workload runs beside no other keeper than the one that its gang uses"),
)
