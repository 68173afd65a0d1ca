"""A killed process that its parent does not reap is found; an exited one, or a reaped one, is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from unitagent.workload import proc
from unitagent.workload.inside import Corpse, Inside, corpses

_BEGET = """
import os, signal, sys
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "killed" else os._exit(3)
if sys.argv[1] == "reaped":
    os.waitpid(child, 0)
else:
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print(child, flush=True)
sys.stdin.read()
"""


@contextmanager
def _parent(kind: str) -> Iterator[int]:
    """A living parent of one dead child, whose pid is given."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _BEGET, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        yield int(parent.stdout.readline())


def _pids(found: frozenset[Corpse]) -> set[int]:
    return {corpse.pid for corpse in found}


def test_a_killed_child_that_nobody_reaps_is_named_at_the_second_look() -> None:
    with _parent("killed") as child:
        inside = Inside()
        assert inside.look(()) is None
        found = inside.look(())
        assert found is not None
        assert (found.pid, found.exit.signal) == (child, 9)


def test_an_exited_child_is_only_untidy() -> None:
    with _parent("exited") as child:
        assert child not in _pids(corpses(()))


def test_a_child_that_was_reaped_has_been_noticed() -> None:
    with _parent("reaped") as child:
        assert child not in _pids(corpses(()))


def test_service_children_and_their_kin_are_not_the_workloads() -> None:
    with _parent("killed") as child:
        assert child not in _pids(corpses({_parent_of(child)}))


def _parent_of(pid: int) -> int:
    found = proc.read(pid)
    assert found is not None
    return found.parent
