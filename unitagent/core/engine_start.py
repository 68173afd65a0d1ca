"""What an engine's start is made of, and in which phase one start took longer than the one before.

The invariant: phases follow each other, so their seconds add up to the whole start. A phase whose end no line
of the engine's output told is a part of the next one that was told, or of ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

PHASES = ("imports", "distributed_init", "weights", "compile", "kv_cache", "graph_capture", "server")
OTHER = "other"  # what no line tells, and the health check after the server has started
_NAMES = {
    "distributed_init": "distributed init",
    "compile": "compilation",
    "kv_cache": "KV cache",
    "graph_capture": "graph capture",
    OTHER: "the rest",
}
_LEAST_SECONDS, _LEAST_SHARE = 1.0, 0.2  # less is noise


class StartMarks(Struct, frozen=True, kw_only=True):
    """What the lines of one start have told so far; times are seconds on the agent's monotonic clock.

    Attributes:
        begun: when the workload was spawned.
        ends: phase -> when it ended.
        parts: a phase within another one, and the phase that had ended last when a line told of it ("" for
            none) -> the seconds that the engine says it took.

    """

    begun: float
    ends: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def last_ended(self) -> str:
        """The phase that ended last; empty for none."""
        return max(self.ends, key=PHASES.index, default="")


def end_phase(marks: StartMarks, phase: str, now: float, seconds: float | None = None) -> StartMarks:
    """Note that a phase has ended.

    Of several processes that tell the end of the same phase the last one counts. Once a later phase has
    ended, only ``seconds`` count, what the engine says that it took: a draft model is loaded late. Nothing
    counts before a phase in front of it has ended: another program's line may look the same.
    """
    place = PHASES.index(phase)
    if place and not any(PHASES.index(one) < place for one in marks.ends):
        return marks
    if PHASES.index(marks.last_ended or phase) > place:
        return marks if seconds is None else add_part(marks, phase, seconds)
    ends = {**marks.ends, phase: now}
    return StartMarks(begun=marks.begun, ends=ends, parts=_move_parts(marks, phase))


def _move_parts(marks: StartMarks, phase: str) -> Mapping[tuple[str, str], float]:
    """The parts once ``phase`` ends again: what came since its last end is a part of it."""
    if not any(after == phase for _, after in marks.parts):
        return marks.parts
    before = max((one for one in marks.ends if one != phase), key=PHASES.index, default="")
    parts = {key: seconds for key, seconds in marks.parts.items() if key[1] != phase}
    for (part, after), seconds in marks.parts.items():
        if after == phase:
            parts[part, before] = max(seconds, parts.get((part, before), 0.0))
    return parts


def add_part(marks: StartMarks, phase: str, seconds: float) -> StartMarks:
    """Note what the engine says that a phase took which is a part of another one; of several processes that
    say so, the slowest counts.
    """
    key = phase, marks.last_ended
    longest = max(seconds, marks.parts.get(key, 0.0))
    return StartMarks(begun=marks.begun, ends=marks.ends, parts={**marks.parts, key: longest})


def measure_phases(marks: StartMarks, now: float | None = None) -> dict[str, float]:
    """Seconds of each phase that has ended, in their order; with ``now``, the end of the start, of all."""
    spans: dict[str, float] = {}
    begin, before = marks.begun, ""
    ended = [(phase, marks.ends[phase]) for phase in PHASES if phase in marks.ends]
    for phase, end in [*ended, *([] if now is None else [(OTHER, now)])]:
        left = max(0.0, end - begin)
        for (part, after), seconds in marks.parts.items():
            if after == before and part != phase:
                taken = min(seconds, left)
                left -= taken
                spans[part] = spans.get(part, 0.0) + taken
        spans[phase] = spans.get(phase, 0.0) + left
        begin, before = max(begin, end), phase
    return {phase: round(spans[phase], 3) for phase in (*PHASES, OTHER) if phase in spans}


def describe_start(phases: Mapping[str, float], last: Mapping[str, float] | None) -> str:
    """A start in words: its phases, and in which it took longer than the last one, if it did notably."""
    slower = "" if last is None else _explain_slowdown(phases, last)
    total = _format_seconds(sum(phases.values()))
    return f"started in {total}: {list_phases(phases)}{slower and f'; {slower}'}"


def list_phases(phases: Mapping[str, float]) -> str:
    """Phases and their seconds in words."""
    return ", ".join(f"{name_phase(phase)} {_format_seconds(took)}" for phase, took in phases.items())


def name_phase(phase: str | None) -> str:
    """A phase for people; None is what no line tells."""
    phase = phase or OTHER
    return _NAMES.get(phase, phase)


def _explain_slowdown(phases: Mapping[str, float], last: Mapping[str, float]) -> str:
    took, before = sum(phases.values()), sum(last.values())
    if not _is_notable(took, before):
        return ""
    grown = {phase: took - last.get(phase, 0.0) for phase, took in phases.items()}
    notable = [phase for phase in grown if _is_notable(phases[phase], last.get(phase, 0.0))]
    causes = [
        f"{name_phase(phase)} took {_format_seconds(phases[phase])}, "
        f"{_format_seconds(last.get(phase, 0.0))} then"
        for phase in sorted(notable, key=lambda phase: -grown[phase])
    ]
    where = "; ".join(causes) or "in no single phase"
    return f"that is {_format_seconds(took - before)} more than the last start: {where}"


def _is_notable(took: float, before: float) -> bool:
    return took - before >= max(_LEAST_SECONDS, _LEAST_SHARE * before)


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
