"""Where a process is: from stacks and kernel states to one short place that can be compared between ranks.

A place has a key, equal for processes that do the same, and words for people. The key has no line numbers of
the function itself, since two processes in one loop are rarely at one line; but a collective is named by who
called it, because ranks that wait in different collectives wait for ever.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitagent.evidence.kernel import ProcessSnapshot
    from unitagent.evidence.stacks import Frame, ThreadStack

LONGEST = 160  # characters of a text
_STOPPED, _STUCK = "Tt", "D"
_LIBRARY = re.compile(r"(?:/lib/python[0-9.]+/(?!site-packages|dist-packages))|^<frozen ")
_WRAPPERS = frozenset(
    {"wrapper", "_fn", "decorate_context", "__torch_function__", "_call_impl", "_wrapped_call_impl"}
)
_WAIT = re.compile(
    r"(?:monitored_)?barrier|_?(?:all_?)?reduce(?:_scatter)?\w*|_?all_?gather\w*|_?all_?to_?all\w*|broadcast\w*|i?send|i?recv\w*"
    r"|(?:batch_)?isend_irecv|gather|scatter|synchronize|_?wait\w*|dequeue|acquire_read|poll|join"
)
_DISTRIBUTED = re.compile(r"torch/distributed/|torch/cuda/|/nccl|shm_broadcast|/mpi4py/|/zmq/|cupy")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process is.

    Attributes:
        role: what the process is for; processes of one role are compared.
        key: equal for two processes that do the same.
        words: for people, after "is": ``in read_model (train.py:12), open of /models/x``.
        waits: it waits for other ranks.
        halted: it is suspended or stuck in the kernel, whatever its code does.

    """

    pid: int
    role: str
    key: str
    words: str
    waits: bool = False
    halted: bool = False

    def describe(self) -> dict[str, Any]:
        """The place as JSON."""
        return {name: one[:LONGEST] if isinstance(one, str) else one for name, one in asdict(self).items()}


def parse_place(raw: Mapping[str, Any]) -> Place:
    """Read a place.

    Raises:
        KeyError, TypeError, ValueError: it is none.

    """
    words = [str(raw[name])[:LONGEST] for name in ("role", "key", "words")]
    return Place(int(raw["pid"]), words[0], words[1], words[2], bool(raw["waits"]), bool(raw["halted"]))


def find_place(seen: ProcessSnapshot, stacks: Sequence[ThreadStack]) -> Place:
    """Find where a process is by its main thread; by the kernel alone if there are no stacks."""
    main = next((one for one in stacks if one.is_main), stacks[0] if stacks else None)
    frames = main.frames if main is not None else ()
    role, pid, state = _name_role(seen, frames), seen.process.pid, seen.process.state
    at, key, waits = _locate(frames) if frames else _locate_by_kernel(seen)
    if state in _STOPPED:
        return Place(pid, role, "suspended", f"suspended (state {state}) {at}", halted=True)
    if state in _STUCK:
        where = f"stuck in the kernel (state D) {at}{_add_call(seen)}"
        return Place(pid, role, f"stuck {key}", where, halted=True)
    return Place(pid, role, key, at if waits else at + _add_call(seen), waits)


def _name_role(seen: ProcessSnapshot, frames: Sequence[Frame]) -> str:
    own = [one for one in frames if not _LIBRARY.search(one.file)]
    named = [one for one in own if not one.file.startswith("<")] or own
    return f"{named[-1].function} ({named[-1].short})" if named else seen.process.name


def _locate(frames: Sequence[Frame]) -> tuple[str, str, bool]:
    """Return where these calls are, its key, and whether they wait for others."""
    own = [one for one in frames if not _LIBRARY.search(one.file) and one.function not in _WRAPPERS]
    if not own:
        return f"in {frames[0]}", f"{frames[0].function} {frames[0].short}", False
    inner = own[0]
    waiting = [one for one in own[:4] if _DISTRIBUTED.search(one.file) and _WAIT.fullmatch(_last_part(one))]
    if waiting:
        name, outside = _last_part(waiting[-1]), own[own.index(waiting[-1]) + 1 :]
        caller = next((one for one in outside if "/torch/" not in one.file), waiting[-1])
        return (
            f"in {name}, called by {caller}",
            f"{name} {caller.function} {caller.short}:{caller.line}",
            True,
        )
    return f"in {inner}", f"{inner.function} {inner.short}", _WAIT.fullmatch(_last_part(inner)) is not None


def _last_part(frame: Frame) -> str:
    return frame.function.rsplit(".", 1)[-1]


def _locate_by_kernel(seen: ProcessSnapshot) -> tuple[str, str, bool]:
    wait = seen.waits[0].partition(", in ")[2].partition(",")[0] if seen.waits else ""
    if seen.process.state == "R" or not wait:
        return f"running {seen.process.name}", "running", False
    return f"waiting in the kernel's {wait}", wait, False


def _add_call(seen: ProcessSnapshot) -> str:
    return f", {seen.doing}" if seen.doing else ""
