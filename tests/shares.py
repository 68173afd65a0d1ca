"""Which tests are run one after another by one worker, when tests run in parallel (pytest-xdist).

A test stands alone, and any free worker takes it; those that share a server or a process, which is started
once, or read the same files, stay together. Those that compute without a pause have a worker of their own, at
a low priority: they use what the others, most of which wait for something, leave of the processors.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.workermanage import WorkerController

WORKERS = 8  # on two processors: most tests wait most of the time
_NICE = 10  # of those that compute

_COMPUTING = (
    "tests/simulation/",
    "tests/core/",
    "tests/frameworks_table/test_properties.py",
    "tests/security/test_flood.py",
)
_SHARING = (
    "tests/test_architecture.py",
    "tests/test_readme.py",
    "tests/store/test_quiet_heartbeat.py",
    "tests/operator/test_store_query.py",
    "tests/operator/test_completion.py",
    "tests/security/test_flood.py",
    "tests/security/test_rebinding.py",
    "tests/simulation/test_simulation.py",
    "tests/store/test_access.py",
    "tests/store/test_any_content.py",
    "tests/traffic/test_traffic.py",
)


class Shares(LoadScopeScheduling):  # type: ignore[misc]  # has no types
    """Gives out shares as workers become free, the largest first; what computes is last, and the first worker
    begins at the end.
    """

    def schedule(self) -> None:
        """Begin, or go on with a new worker."""
        super().schedule()
        for one in [one for one in self.workqueue if one.startswith(_COMPUTING)]:
            self.workqueue.move_to_end(one)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is self.nodes[0]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)


def share(test: str) -> str:
    """The name of what this test belongs to; its own name when it stands alone."""
    file = test.partition("::")[0]
    if test.startswith("tests/contract/"):
        return f"with the server {re.split(r'[-[]', test)[-1]}"
    return file if file in _SHARING else test


@contextlib.contextmanager
def lowered_priority(test: str) -> Iterator[None]:
    """Let what computes give way to all others meanwhile. Without root the priority could not be restored."""
    if os.geteuid() or not test.startswith(_COMPUTING):
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, _NICE))
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def workers(config: pytest.Config) -> int:
    """How many for ``-n auto``: none where paths are named, for few tests end sooner than workers begin."""
    named = config.args_source is config.ArgsSource.ARGS
    return 0 if named else int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", WORKERS))
