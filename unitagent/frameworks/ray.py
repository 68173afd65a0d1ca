"""Ray: a cluster of the whole Unit, and the user's command at rank 0.

For ``ray job …`` and for any script that calls ``ray.init()``, a shell's text included: it runs as it is, at
rank 0 once the cluster stands. A command that starts Ray itself (``ray start``, ``ray symmetric-run``) is
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

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
        return Plan(
            argv=ray_cluster.clustered(context, argv, dashboard=jobs),
            env=_job_server(context) if jobs and not env.get(_JOB_SERVER) else {},
            origins=ray_cluster.ORIGINS
            | ({_JOB_SERVER: "Rank 0's job server is the one to ask."} if jobs else {}),
        )


def _job_server(context: Context) -> Mapping[str, str]:
    if context.rank:
        return {}
    return {_JOB_SERVER: f"http://127.0.0.1:{context.master_port + 1}"}
