"""What must always hold, checked over a history. Every violation is one sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from tests.chaos import limits
from tests.chaos.detection import noticed_in_time, rebuilt_quickly
from tests.chaos.faults import KINDS, must_restart
from tests.chaos.history import Chronicle, Fault, History, Round
from tests.network.lives import Life, overlaps

ISOLATING = {kind for kind in KINDS if kind.startswith("cut off and replaced")} | {"cut off", "deaf", "mute"}


def violations(chronicle: Chronicle) -> list[str]:
    """Every broken guarantee of all Units."""
    return [
        f"Unit {number} (lease {unit.timing.lease:g} s, heartbeat {unit.timing.heartbeat:g} s): {sentence}"
        for number, unit in enumerate(chronicle.units)
        for sentence in broken(unit)
    ]


def broken(history: History) -> list[str]:
    """Every broken guarantee of one Unit."""
    return [sentence for check in CHECKS for sentence in check(history)]


def no_overlap(history: History) -> Iterator[str]:
    """Nothing starts while anything older lives, but workloads beside keepers."""
    yield from overlaps(history.lives)
    yield from overlaps([*history.lives, *history.kept], newer=history.kept)


def same_table(history: History) -> Iterator[str]:
    """All ranks of a generation are told the same."""
    told: dict[int, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for note in history.notes:
        if note["event"] == "begin":
            env = note["env"]
            table = tuple(
                env[name] for name in ("MASTER_ADDRESS", "MASTER_PORT", "UNIT_RANK_IPS", "UNIT_SIZE")
            )
            told[note["generation"]][table].append(note["rank"])
    for generation, tables in told.items():
        if len(tables) > 1:
            yield f"generation {generation}: ranks were told different things: {dict(tables)}"


def one_start(history: History) -> Iterator[str]:
    """With guard each rank starts a generation once, so a generation is never issued twice."""
    starts: dict[tuple[int, int], list[Life]] = defaultdict(list)
    for life in _mains(history):
        starts[life.rank, life.generation].append(life)
    for (rank, generation), lives in starts.items():
        if len(lives) > 1:
            yield f"rank {rank} started generation {generation} {len(lives)} times"


def one_incarnation(history: History) -> Iterator[str]:
    """Workloads of two incarnations of a rank are never alive together."""
    for old in _mains(history):
        for new in _mains(history):
            if (
                old.rank == new.rank
                and old.agent != new.agent
                and old.born < new.born
                and old.outlives(new.born)
            ):
                yield f"rank {old.rank}: pids {old.pid} and {new.pid} of two incarnations lived together"


def only_forward(history: History) -> Iterator[str]:
    """No start of an older generation after one of a newer; no agent's generation goes down."""
    highest = 0
    for life in sorted(_mains(history), key=lambda life: life.born):
        if life.generation < highest:
            yield f"generation {life.generation} started on rank {life.rank} after generation {highest} had"
        highest = max(highest, life.generation)
    seen: dict[str, int] = {}
    for sample in sorted(history.samples, key=lambda sample: sample.at):
        if sample.generation < seen.get(sample.incarnation, 0):
            known = seen[sample.incarnation]
            yield f"rank {sample.host} went back from generation {known} to {sample.generation}"
        seen[sample.incarnation] = sample.generation


def restarts(history: History) -> Iterator[str]:
    """What has to restart the Unit does, once for each fault at most; what must not, does not."""
    previous = 0
    for one in history.rounds:
        started = {life.generation for life in _mains(history) if one.before < life.generation <= one.after}
        causes = sum(KINDS[fault.kind].restarts for fault in one.faults)
        if one.stuck:
            yield f"{_name(one)}: the Unit did not come back: {one.stuck}"
        elif must_restart([fault.kind for fault in one.faults]) and not started:
            yield f"{_name(one)}: nothing restarted"
        elif not causes and started and not isolating(one):
            yield f"{_name(one)}: a needless restart"
        elif len(started) > max(1, causes) + isolating(one):
            yield f"{_name(one)}: {len(started)} restarts"
        if previous and one.before != previous:
            yield f"before {_name(one)}: generation {previous} had ended without a fault"
        previous = one.after


def isolating(one: Round) -> bool:
    """Whether two faults together may cut somebody off from the store and from the peers."""
    cuts = [KINDS[fault.kind].cuts for fault in one.faults]
    return len(cuts) > 1 and frozenset({"store", "peers"}) <= frozenset().union(*cuts)


def isolated_stop(history: History) -> Iterator[str]:
    """Whoever is cut off from everything has stopped in time."""
    longest = limits.isolated(history.timing)
    for one in history.rounds:
        for fault in one.faults:
            if fault.kind not in ISOLATING or fault.mended is None or fault.mended - fault.struck < longest:
                continue
            limit = fault.struck + longest
            for life in (*history.lives, *history.kept):
                if life.rank == fault.rank and life.born < fault.struck and life.outlives(limit):
                    who = f"pid {life.pid} of rank {fault.rank}"
                    yield f"{_name(one)}: {who} lived on for more than {longest:g} s"


def true_readiness(history: History) -> Iterator[str]:
    """Nobody says ready for long while a workload of the generation is gone."""
    deaths: dict[int, float] = {}
    for life in _mains(history):
        if life.died is not None:
            deaths[life.generation] = min(deaths.get(life.generation, life.died), life.died)
    for sample in history.samples:
        died = deaths.get(sample.generation)
        late = sample.ready and died is not None and sample.at > died + _lag(history, died)
        if late and died is not None:
            when, after = sample.at - history.began, sample.at - died
            yield f"at {when:.1f} s rank {sample.host} said ready {after:.1f} s after a workload had died"


def _lag(history: History, died: float) -> float:
    blind = limits.found_out(history.timing)
    away = any(abs(fault.struck - died) < blind for fault in _outages(history))
    return blind if away else limits.told(history.timing)


def steady_readiness(history: History) -> Iterator[str]:
    """What only the store does or shows changes no answer of ``/readyz``."""
    for one in history.rounds:
        if len(one.faults) > 1 or not KINDS[one.faults[0].kind].unseen or one.stuck:
            continue
        for flip in history.flips:
            if one.begun <= flip.at <= one.ended and flip.code not in {0, 200}:
                after = flip.at - one.begun
                yield f"{_name(one)}: rank {flip.host} was not ready after {after:.2f} s: {flip.why}"


def _outages(history: History) -> list[Fault]:
    kinds = {kind for kind, one in KINDS.items() if one.of_store and one.cuts}
    return [fault for one in history.rounds for fault in one.faults if fault.kind in kinds]


def codes(history: History) -> Iterator[str]:
    """A container that nobody killed ends when it has to, with the code that says why."""
    for end in history.ends:
        if end.code != end.due:
            due = "it should have gone on" if end.due is None else f"{end.due} was due"
            yield f"the agent of rank {end.rank} ended with {end.code}, but {due}"


def _mains(history: History) -> list[Life]:
    return [life for life in history.lives if life.main]


def _name(one: Round) -> str:
    return f"round {one.number} ({', '.join(f'{fault.kind} at rank {fault.rank}' for fault in one.faults)})"


CHECKS: tuple[Callable[[History], Iterator[str]], ...] = (
    no_overlap,
    same_table,
    one_start,
    one_incarnation,
    only_forward,
    restarts,
    noticed_in_time,
    rebuilt_quickly,
    isolated_stop,
    true_readiness,
    steady_readiness,
    codes,
)
