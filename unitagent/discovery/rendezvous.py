"""By which variables a platform has the processes of a job meet: no user set them.

Sources: Kubeflow's training-operator 1.9 and Trainer 2. ``PET_NPROC_PER_NODE`` is no meeting place and stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_KUBEFLOW_RENDEZVOUS = re.compile(
    r"PET_(NNODES|NODE_RANK|MASTER_\w+|RDZV_\w+|MAX_RESTARTS)|MASTER_(ADDR|PORT)"
)


def find_rendezvous_variables(platform: str | None, names: Collection[str]) -> frozenset[str]:
    """Pick those of ``platform`` out of the names of variables; its jobs of JAX meet otherwise."""
    torchrun = platform == "Kubeflow" and "PET_NODE_RANK" in names
    return frozenset(filter(_KUBEFLOW_RENDEZVOUS.fullmatch, names)) if torchrun else frozenset()
