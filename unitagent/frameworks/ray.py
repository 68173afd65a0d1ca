"""Ray: a cluster of the whole Unit, and the user's command at rank 0.

For ``ray job …`` and for any script that calls ``ray.init()``, a shell's text included: it runs as it is, at
rank 0 once the cluster stands. A command that starts Ray itself (``ray start``, ``ray symmetric-run``) is
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unitagent.frameworks import ray
from unitagent.frameworks.interface import RankContext, LaunchPlan
from unitagent.frameworks.command import split_at_engine

_JOBS = (("ray", "job"),)
_OWN = (("ray", "start"), ("ray", "symmetric-run"))
_JOB_SERVER = "RAY_API_SERVER_ADDRESS"


class Ray:
    """Any command that uses Ray; see the module."""

    name = "ray"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it is plain that the command needs Ray: ``ray job …``, or one that starts it itself."""
        return split_at_engine(argv, (*_JOBS, *_OWN)) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Wrap ``argv`` for one rank."""
        if context.size == 1 or split_at_engine(argv, _OWN) or ray.is_ray_cluster(argv):
            return LaunchPlan(argv=argv)
        jobs = split_at_engine(argv, _JOBS) is not None
        plan = ray.plan_ray_cluster(context, argv, env, dashboard=jobs)
        if not jobs or context.rank or env.get(_JOB_SERVER):
            return plan
        return replace(
            plan,
            env={**plan.env, _JOB_SERVER: f"http://127.0.0.1:{context.master_port + 1}"},
            origins={**plan.origins, _JOB_SERVER: "Rank 0's job server is the one to ask."},
        )
