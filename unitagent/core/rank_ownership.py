"""Which incarnation holds a rank.

The rule. Each time an incarnation takes a rank it gets a *tenure*: a number above that of the record it
replaces. A tenure that has lasted for ``takeover`` in unbroken contact is raised to the store's clock, so
that it is above whatever a store may be set back to. The rank belongs to the highest *living* tenure:
its heartbeat count grows while I look, or its agent answers me. If that is another incarnation than
mine, I am fenced, and end. An incarnation that only the store remembers fences nobody, and neither does
a lower tenure: while I serve I overwrite its record at once and continue. An agent that held the rank
and does not serve leaves it to any other living one.

A newcomer, or an agent that does not serve, waits until the holder is certainly gone: its record says
so, I have its address now, its own machine refuses connections there while its heartbeat has stopped,
or it has been silent for ``takeover``.
"""

from __future__ import annotations

from msgspec.structs import replace

from unitagent.core import failures, restart_budget
from unitagent.core.actions import Action, Level, Log, Stop
from unitagent.core.config import Restart
from unitagent.core.exits import ExitCode
from unitagent.core.failure_detector import ask_peers, may_ask
from unitagent.core.leases import NEVER
from unitagent.core.model import InstanceState, Reason, Record, format_ranks
from unitagent.core.state import (
    Result,
    State,
    describe_rank,
    is_observed,
    is_still_mine,
    log_line,
    longest_takeover,
    make_failure,
    request_exit,
    update_record,
    was_held_lately,
)
from unitagent.core.state_parts import WorkloadPhase

FIRST_WARNING = 3.0  # seconds; then the log warns that the store has not been reached


def leave_when_fenced(state: State) -> Result:
    """Another incarnation holds my rank: end, and kill the workload at once."""
    if state.fenced or state.me.has_left or not state.joined or not state.store.is_new_snapshot:
        return state, ()
    holder = state.store.records.get(state.config.rank)
    rival = (
        holder is not None and holder.incarnation not in {"", state.me.incarnation} and not holder.has_left
    )
    if holder is None or not (rival and is_living(state, holder.incarnation)):
        return state, ()
    if _prevails_over(state, holder) and (_runs_with_gang(state) or not _has_answered(state, holder)):
        return state, ()
    where = holder.hostname or holder.ip
    why = (
        f"fenced: another live instance on {where} holds rank {state.config.rank} of Unit {state.config.unit}"
    )
    state = request_exit(state.with_shutdown(leaving=None), ExitCode.FENCED, why)
    if not state.up:
        return state, ()
    state = update_record(
        state.with_workload(phase=WorkloadPhase.STOPPING, grace=0.0), state=InstanceState.STOPPING
    )
    return state, (Log(Level.ERROR, why, "fenced"), Stop(0.0))


def _prevails_over(state: State, holder: Record) -> bool:
    """Whether my tenure is the later one. Two instances have the same number where the store was set back to
    before the first claim: then the one that runs with the others prevails over one that has not started.
    """
    serves = _runs_with_gang(state) and not holder.state.started
    return state.me.tenure >= holder.tenure if serves else state.me.outranks(holder)


def _has_answered(state: State, holder: Record) -> bool:
    """Whether its agent has answered recently. Heartbeats are not signed: anybody who can write to the
    store could add them to a record of an earlier incarnation.
    """
    asks = state.config.probes and holder.port
    alive_at = state.peers.known_alive_at.get(holder.incarnation, NEVER)
    return not asks or state.now - alive_at < state.config.lease


def is_living(state: State, incarnation: str) -> bool:
    """Whether there is living evidence of it: a heartbeat count that grew in this contact, or a recent
    answer.
    """
    answered = state.now - state.peers.known_alive_at.get(incarnation, NEVER) < state.config.lease
    return state.store.leases.is_beating(incarnation, within=state.config.lease) or answered


def was_taken(state: State) -> bool:
    """Whether another incarnation holds the rank that I gave back."""
    holder, record = state.store.holder, state.store.records.get(state.config.rank)
    if not state.me.has_left or holder in {"", state.me.incarnation}:
        return False
    return record is None or record.incarnation != holder or record.outranks(state.me)


def is_gone(state: State, incarnation: str) -> bool:
    """Whether it has been silent, in the store and at its address, for longer than it could live in
    isolation. Others may have heard it until I sent the first question that it did not answer.
    """
    alive_at, unanswered_since = (
        state.peers.known_alive_at.get(incarnation, NEVER),
        state.peers.unanswered_since.get(incarnation, NEVER),
    )
    takeover = _takeover_after(state, incarnation)
    answers = state.now - max(alive_at, unanswered_since) < takeover
    return state.store.leases.seconds_unchanged(incarnation) > takeover and not answers


def _takeover_after(state: State, incarnation: str) -> float:
    """Seconds of silence after which its rank may be taken; its own lease may be longer than mine."""
    known = (
        state.store.records.get(state.config.rank),
        state.store.forgotten_holder,
        *state.barrier.confirmed_members,
    )
    return longest_takeover(state, *(one for one in known if one and one.incarnation == incarnation))


def find_replaceable(state: State) -> str | None:
    """The incarnation that my record may replace, "" if the rank is free; None while I have to wait."""
    if not state.store.ever_answered:
        return None
    holder, record = state.store.holder, state.store.records.get(state.config.rank)
    if not state.joined and was_held_lately(state):
        return None
    if state.workload.isolated and not is_still_mine(state):
        return None
    if holder in {"", state.me.incarnation}:
        if (
            record is not None
            and record.incarnation != state.me.incarnation
            and _is_holder_alive(state, record)
        ):
            return None  # the store has lost the name of its holder, not the holder
        return "" if state.joined or not _may_have_forgotten(state) else None
    if record is None or record.incarnation != holder:  # its record is lost or corrupt, its heartbeat is not
        return holder if _runs_with_gang(state) or is_gone(state, holder) else None
    if _runs_with_gang(state) and _prevails_over(state, record):
        return holder
    if state.me.has_left and record.outranks(state.me):  # I gave it back
        return None
    return holder if _has_ended(state, record) else None


def _is_holder_alive(state: State, holder: Record) -> bool:
    """Whether it has sent a heartbeat, or answered me, within the time after which it could be
    replaced.
    """
    takeover = _takeover_after(state, holder.incarnation)
    answered = state.now - state.peers.known_alive_at.get(holder.incarnation, NEVER) <= takeover
    return answered or state.store.leases.is_beating(holder.incarnation, within=takeover)


def _runs_with_gang(state: State) -> bool:
    """Whether I run with the others: then nobody can have formed a generation without me."""
    return state.up and state.in_gang and state.generation == state.me.generation


def _has_ended(state: State, holder: Record) -> bool:
    """Whether the agent that holds my rank in the store is certainly gone."""
    if holder.has_left or holder.had_address_of(state.me) or is_gone(state, holder.incarnation):
        return True
    patience = min(2 * state.config.heartbeat, state.config.timing.contact_gap)
    here = bool(holder.netns) and holder.netns == state.me.netns  # on another machine a firewall may refuse
    refused = here and holder.incarnation in state.peers.connection_refused
    silent = state.store.leases.seconds_unchanged(holder.incarnation) > patience
    return (_is_predecessor(state, holder) or refused) and silent


def _is_predecessor(state: State, holder: Record) -> bool:
    """Whether I replaced this very holder, and it has not gone on to a later generation since."""
    former = state.store.predecessor
    if former is None or former.incarnation != holder.incarnation:
        return False
    return holder.generation <= former.generation


def _may_have_forgotten(state: State) -> bool:
    """Whether the store knows that the Unit has run, and nobody in my rank: somebody held it, and may
    be alive.

    Such a holder has as long to write again as an isolated agent may live, by the longest lease that I
    know, since it may be that one's. A Unit of one, which has no peers to wait for at its barrier, waits
    for a heartbeat in any case.
    """
    timing = state.config.timing
    if state.config.owns_store:
        return False
    if not _has_run(state):
        return state.config.size == 1 and not is_observed(state, timing.heartbeat + timing.tick)
    return not is_observed(state, longest_takeover(state, *state.store.records.values()))


def _has_run(state: State) -> bool:
    """Whether the store knows that the Unit has run, although it knows nobody in my rank."""
    records = state.store.records.values()
    before = (InstanceState.WAITING, InstanceState.IDLE)
    ran = state.generation > 1 or any(
        record.predecessor_generation or record.state not in before for record in records
    )
    return ran or (state.generation > 0 and not records)


def choose_tenure(predecessor: Record | None, clock: int, *, observed: bool) -> int:
    """The tenure of an incarnation that takes a rank.

    Args:
        predecessor: The record that mine replaces.
        clock: The store's clock, in milliseconds.
        observed: I had unbroken contact for ``takeover``, so no living holder can have been forgotten.

    """
    above = predecessor.tenure + 1 if predecessor else 1
    return max(above, clock) if observed else above


def confirm_tenure(state: State) -> Result:
    """Raise a tenure that has lasted for ``takeover``, or with which all ranks have started, above whatever
    the store may be set back to.
    """
    store = state.store
    mine_now = store.is_new_snapshot and store.holder == state.me.incarnation and store.joined_at is not None
    if store.tenure_confirmed or not mine_now:
        return state, ()
    if not _is_agreed_on(state) and not _is_past_takeover(state, store.joined_at or 0.0):
        return state, ()
    return update_record(
        state.with_store(tenure_confirmed=True), tenure=max(state.me.tenure, store.clock)
    ), ()


def _is_past_takeover(state: State, since: float = NEVER) -> bool:
    """Whether a later holder that the store has forgotten would have written again, or be dead."""
    return is_observed(state, state.config.timing.takeover, since)


def _is_agreed_on(state: State) -> bool:
    """Whether all ranks have confirmed a gang in which I run; an agent that rejoins alone was confirmed
    by nobody.
    """
    leader = state.store.records.get(0)
    with_leader = leader is not None and leader.gang == state.me.gang
    return state.up and state.in_gang and (state.ends_whole_unit or with_leader)


def give_up_on_store(state: State) -> Result:
    """The store was never reached: log why, and end after a while, because nothing has been started
    yet.
    """
    trouble, waited = state.store.last_error, state.now - state.started
    if state.store.ever_answered or not trouble:  # at least one attempt is completed
        return state, ()
    limit = state.config.store_timeout
    if waited > limit:
        return request_exit(state, ExitCode.STORE, explain_never_reached(limit, trouble)), ()
    if waited < FIRST_WARNING or trouble in state.warned:
        return state, ()
    state = replace(state, warned=state.warned | {trouble})
    return state, log_line(Level.WARNING, explain_not_reached(waited, limit, trouble))


def explain_never_reached(limit: float, trouble: str) -> str:
    """The final message about a store that could not be reached within ``limit`` seconds, or at the
    only attempt.
    """
    tried = f"within {limit:g} s (UNIT_STORE_TIMEOUT_SECONDS)"
    once = "at the only attempt that UNIT_STORE_TIMEOUT_SECONDS=0 allows"
    return f"the store could not be reached {tried if limit else once}: {trouble}"


def explain_not_reached(waited: float, limit: float, trouble: str) -> str:
    """The message about a store that I keep trying to reach."""
    limits = f"of at most {limit:g} s (UNIT_STORE_TIMEOUT_SECONDS)"
    return f"the store has not been reached for {waited:.0f} s {limits}: {trouble}"


def needs_new_tenure(state: State, holder: str | None) -> bool:
    """Whether my next record begins a tenure: I had none yet, or I do not serve and another one held
    the rank.
    """
    another = holder not in {None, "", state.me.incarnation}
    return not state.joined or (another and not _runs_with_gang(state) and not state.me.has_left)


def start_tenure(state: State) -> State:
    """The first record of a tenure. With guard, or at rank 0, my predecessor's generation is over, and
    this very exchange says so: I may not live until the next one.
    """
    predecessor = state.store.records.get(state.config.rank)
    observed = _is_past_takeover(state)
    tenure = choose_tenure(predecessor, state.store.clock, observed=observed)
    state = update_record(state.with_store(tenure_confirmed=observed), tenure=tenure)
    if predecessor is not None:
        return succeed_holder(state, predecessor)
    return (
        state.with_generation(state.generation + 1)
        if _has_run(state) and state.ends_whole_unit and not _awaits_start(state)
        else state
    )


def _awaits_start(state: State) -> bool:
    """Whether the highest generation that I know has yet to start, so that nobody in my rank has
    started in it.
    """
    standing = [one for one in state.store.records.values() if one.generation == state.generation]
    begun = any(one.predecessor_generation >= state.generation for one in state.store.records.values())
    return not begun and any(one.state is InstanceState.IDLE for one in standing)


def succeed_holder(state: State, predecessor: Record) -> State:
    """What follows from the record that I replace."""
    state = state.with_store(predecessor=predecessor)
    state = restart_budget.inherit_charges(state, predecessor)
    begun = predecessor.generation if predecessor.state.started else 0
    state = update_record(state, predecessor_generation=max(predecessor.predecessor_generation, begun))
    if not state.ends_whole_unit:
        return state
    if state.config.restart is Restart.RECREATE:  # no other agent survives to remember
        state = update_record(state, restarts=predecessor.restarts)
    if predecessor.state.started and not (predecessor.stop_requested or predecessor.has_left):
        why = f"{describe_rank(state, predecessor.rank)} was rebuilt"
        replaced = make_failure(state, predecessor.rank, Reason.REPLACED, why)
        state = failures.remember_failure(state, replace(replaced, generation=predecessor.generation))
    if not ends_with_holder(predecessor):
        return state
    return state.with_generation(predecessor.generation + 1).with_store(notify=True)


def ends_with_holder(holder: Record) -> bool:
    """Whether the generation of this holder ends with it: the others may have started with it, unless it had
    confirmed no gang.
    """
    return bool(holder.gang) or holder.state.started


def wait_for_rank(state: State) -> Result:
    """Log who holds my rank, and ask that agent whether it is alive: a refusal is faster than an
    expired lease, and an answer distinguishes a holder from one that only the store remembers.
    """
    holder = state.store.records.get(state.config.rank)
    if not state.store.ever_answered or find_replaceable(state) is not None:
        return state, ()
    if state.config.rank in state.store.unverified_ranks and not state.joined:
        return _warn_once(state, _explain_foreign_holder(state))
    if holder is None or holder.incarnation == state.me.incarnation:
        state = _look_when_observed(state)
        state, actions = (
            _warn_once(state, _explain_no_holder(state)) if _may_be_forgotten(state) else (state, ())
        )
        return _ask_holders(state, None, actions)
    where = f"{holder.ip}, {holder.hostname}" if holder.hostname else holder.ip
    if state.config.claimed and not state.joined and is_living(state, holder.incarnation):
        return _give_up_claim(state, where), ()
    takeover = _takeover_after(state, holder.incarnation)
    why = (
        f"rank {holder.rank} of Unit {state.config.unit} is held by another instance ({where}); waiting "
        f"until it leaves, or has been silent for {takeover:g} s; if both are to run, give this "
        f"one {_another_place(state.config.size)}"
    )
    if state.store.leases.has_reached_age(holder.incarnation, takeover, state.now):
        state = state.with_store(exchange_due=True)  # at once, not at the next heartbeat
    state, actions = _warn_once(state, why)
    return _ask_holders(state, holder, actions)


def _give_up_claim(state: State, where: str) -> State:
    """Leave: the store has lost my claim, somebody else has the rank by now, and others may be free."""
    rank, unit = state.config.rank, state.config.unit
    why = f"another instance ({where}) has taken rank {rank} of Unit {unit}, which this one had claimed"
    return request_exit(state, ExitCode.FENCED, f"{why}; started again, it stands by or claims another")


def _another_place(size: int) -> str:
    return "another RANK_ID" if size > 1 else "another UNIT_ID (UNIT_SIZE=1 has no other rank)"


def _look_when_observed(state: State) -> State:
    """In a Unit of one, read the store as soon as I have waited long enough, not only at the next
    heartbeat.
    """
    contact, timing = state.store.leases.contact_since, state.config.timing
    due = (contact or state.now) + timing.heartbeat + timing.tick
    if state.config.size > 1 or state.joined or contact is None or state.now >= due:
        return state
    return state.with_store(next_beat=min(state.store.next_beat, due))


def _ask_holders(state: State, holder: Record | None, actions: tuple[Action, ...]) -> Result:
    """Ask the holder of my rank, and the former holder that the store has forgotten."""
    former = None if state.joined else state.store.forgotten_holder
    there = {one.incarnation: one for one in (holder, former) if one is not None and one.port}
    if not there or not state.config.probes or not may_ask(state, state.config.rank):
        return state, actions
    state, question = ask_peers(state, tuple(there.values()))
    return state, (*actions, *question)


def _may_be_forgotten(state: State) -> bool:
    return _has_run(state) and not state.joined


def _explain_foreign_holder(state: State) -> str:
    config = state.config
    return (
        f"rank {config.rank} of Unit {config.unit} is held by an instance with another UNIT_SECRET, or "
        f"with none; waiting until it has been silent for {config.timing.takeover:g} s; "
        "all ranks need the same secret"
    )


def _explain_no_holder(state: State) -> str:
    """Why the store, which knows the Unit, shows nobody in my rank."""
    return _explain_other_secret(state) if state.store.unverified_ranks else _explain_forgotten(state)


def _explain_other_secret(state: State) -> str:
    foreign = sorted(state.store.unverified_ranks)
    noun = "record" if len(foreign) == 1 else "records"
    return (
        f"ignoring the store's {noun} of {format_ranks(foreign)}: signed with another UNIT_SECRET, or "
        f"unsigned; waiting {state.config.timing.takeover:g} s; use the same secret on all ranks, or another "
        "UNIT_ID for another Unit"
    )


def _explain_forgotten(state: State) -> str:
    config, seconds = state.config, longest_takeover(state, *state.store.records.values())
    return (
        f"the store shows no holder of rank {config.rank} of Unit {config.unit}, which has run before: it "
        f"may have lost its data; waiting {seconds:g} s for a holder that is still alive"
    )


def _warn_once(state: State, why: str) -> Result:
    if why in state.warned:
        return state, ()
    return replace(state, warned=state.warned | {why}), log_line(Level.WARNING, why)


def log_joined(state: State) -> Result:
    """Log once that I hold my rank."""
    if not state.joined or "joined" in state.warned:
        return state, ()
    state = replace(state, warned=state.warned | {"joined"})
    event = "joined" if state.store.predecessor is None else "takeover"
    who = describe_rank(state, state.config.rank)
    return state, log_line(Level.INFO, f"joined Unit {state.config.unit} as {who}", event)
