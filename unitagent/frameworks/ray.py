"""Ray: a cluster of the whole Unit, and the user's command at rank 0.

For ``ray job …`` and for any script that calls ``ray.init()``, a shell's text included: it runs as it is, at
rank 0 once the cluster stands. A command that starts Ray itself (``ray start``, ``ray symmetric-run``) is
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unitagent.frameworks import ray_cluster
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import recognize

_JOBS = (("ray", "job"),)
_OWN = (("ray", "start"), ("ray", "symmetric-run"))
_JOB_SERVER = "RAY_API_SERVER_ADDRESS"


class Ray:
    """Any command that uses Ray; see the module."""

    name = "ray"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it is plain that the command needs Ray: ``ray job …``, or one that starts it itself."""
        return recognize(argv, (*_JOBS, *_OWN)) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Wrap ``argv`` for one rank."""
        if context.size == 1 or recognize(argv, _OWN) or ray_cluster.is_clustered(argv):
            return Plan(argv=argv)
        jobs = recognize(argv, _JOBS) is not None
        plan = ray_cluster.plan(context, argv, env, dashboard=jobs)
        if not jobs or context.rank or env.get(_JOB_SERVER):
            return plan
        return replace(
            plan,
            env={**plan.env, _JOB_SERVER: f"http://127.0.0.1:{context.master_port + 1}"},
            origins={**plan.origins, _JOB_SERVER: "Rank 0's job server is the one to ask."},
        )
