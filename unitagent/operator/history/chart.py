"""``unitagent timeline`` in a terminal: a row for each rank, a letter for the worst in its share of time."""

from __future__ import annotations

from collections.abc import Iterator

from unitagent.core.model import InstanceState
from unitagent.operator.history.event_text import format_time
from unitagent.operator.history.timeline import Timeline
from unitagent.system import safe_output

FAULT, GAP = "X", "!"
# What is further down shows through: a restart of a moment is seen in a chart of a day.
LETTERS = {
    InstanceState.HEALTHY: "#",
    InstanceState.RUNNING: "=",
    InstanceState.WAITING: ".",
    InstanceState.IDLE: "-",
    InstanceState.STARTING: "s",
    InstanceState.STOPPING: "v",
    InstanceState.EXITED: "_",
    InstanceState.LOST: "?",
}
_DEPTH = {state: depth for depth, state in enumerate(LETTERS)}
_LEAST = 20  # letters in a row, however narrow the terminal is


def draw_chart(unit: str, line: Timeline, width: int) -> str:
    """Draw it, ``width`` letters wide."""
    label = f"rank {max(line.ranks, default=0)} "
    scale = _Scale(line, max(_LEAST, width - len(label)))
    head = f"Unit {unit}: {format_time(line.begin)} to {format_time(line.end)}, a letter is {scale.step:.3g} s"
    rows = [head, f"{'gen':<{len(label)}}{scale.draw_generations()}".rstrip()]
    rows += [f"{f'rank {rank}':<{len(label)}}{scale.draw_row(rank)}".rstrip() for rank in line.ranks]
    marks = (f"{FAULT} failure", f"{GAP} gap")
    rows.append("  ".join([*(f"{letter} {state}" for state, letter in LETTERS.items()), *marks]))
    for mark, moments in ((FAULT, line.faults), (GAP, line.gaps)):
        rows += [f"{mark} {format_time(one.at)}  {safe_output.escape_line(one.detail)}" for one in moments]
    return "\n".join(rows)


class _Scale:
    """Time as places in a row."""

    def __init__(self, line: Timeline, cells: int) -> None:
        self._line = line
        self._cells = cells
        self.step = max(line.end - line.begin, 0.001) / cells

    def draw_row(self, rank: int) -> str:
        """What was worst in each place; where entries of this rank are missing, or a generation failed
        because of it, that.
        """
        depths = [-1] * self._cells
        for span in self._line.spans:
            if span.rank == rank:
                first, last = self._find_cell(span.begin), self._find_cell(span.end - self.step / 1000)
                for place in range(first, max(first, last) + 1):
                    depths[place] = max(depths[place], _DEPTH[span.state])
        letters = [" ", *LETTERS.values()]
        row = [letters[depth + 1] for depth in depths]
        for mark, moments in ((GAP, self._line.gaps), (FAULT, self._line.faults)):
            for moment in moments:
                if moment.rank == rank:
                    row[self._find_cell(moment.at)] = mark
        return "".join(row)

    def draw_generations(self) -> str:
        """Each generation's number where it begins, if there is room."""
        row = ""
        for number, place in self._find_beginnings():
            if not row or place > len(row):
                row = f"{row:<{place}}{number}"
        return row

    def _find_beginnings(self) -> Iterator[tuple[int, int]]:
        for number, at in self._line.generations.items():
            yield number, self._find_cell(at)

    def _find_cell(self, at: float) -> int:
        return max(0, min(self._cells - 1, int((at - self._line.begin) / self.step)))
