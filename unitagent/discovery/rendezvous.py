"""By which variables a platform has the processes of a job meet: no user set them.

Sources: Kubeflow's training-operator 1.9 and Trainer 2. ``PET_NPROC_PER_NODE`` is no meeting place and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_KUBEFLOW = re.compile(r"PET_(NNODES|NODE_RANK|MASTER_\w+|RDZV_\w+|MAX_RESTARTS)|MASTER_(ADDR|PORT)")


def rendezvous(platform: str | None, names: Iterable[str]) -> frozenset[str]:
    """Pick those of ``platform`` out of the names of variables."""
    return frozenset(filter(_KUBEFLOW.fullmatch, names)) if platform == "Kubeflow" else frozenset()
