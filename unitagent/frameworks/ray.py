"""Ray: a cluster of all ranks, with the user's command at rank 0 once every node is alive.

``ray job …`` and any script that calls ``ray.init()`` run unchanged at rank 0, shell text included. A command
that starts Ray itself (``ray start``, ``ray symmetric-run``) is left alone.

The cluster is started by shell text instead of a Python module of ours, because the agent may run in its own
Python, which has neither Ray nor the workload's packages. The workload's image has ``ray`` and the Python
that ``ray`` uses.

The invariant: the words of the user's command are passed as arguments, never as shell text.

Sources: Ray 2.60, ``ray start --help``. Nodes are counted by ``Alive``, since ``ray.nodes()`` also lists dead
ones; ranks wait for the head's port, since a node that starts too early may never connect (dynamo#14108). The
wait has no limit: the death of a rank ends the generation, and ``UNIT_STARTUP_SECONDS`` ends one that does
not come up.

Stopping: the head's daemons run in their own session, so SIGTERM reaches only the command, which may use the
cluster until it ends; if GCS and raylet received it together, they would wait for each other for ever. A node
would drain itself for 30 s; the Unit as a whole has already drained before its ranks are stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from unitagent.frameworks.command import split_at_engine
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.system.host_port import join_host_port

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIND_PYTHON = """
for python in "$(sed -n '1s/^#! *//p' "$(command -v ray)" 2>/dev/null)" python3 python; do
  "$python" -c 'import ray' 2>/dev/null && break
done
"""

_HEAD = (
    """\
size=$1 ip=$2 port=$3 address=$4 dashboard=$5
shift 5
$(command -v setsid) ray start --head --node-ip-address="$ip" --port="$port" \\
  --include-dashboard="$dashboard" \\
  --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) --ray-client-server-port=$((port + 2)) \\
  --disable-usage-stats || exit
"""
    + _FIND_PYTHON
    + """\
"$python" -c '
import sys, time, ray
size, seen = int(sys.argv[1]), 0
ray.init(address=sys.argv[2], log_to_driver=False, logging_level="error")
while seen < size:
    alive = sum(node["Alive"] for node in ray.nodes())
    if alive != seen:
        print(f"ray: {alive} of {size} nodes are alive", file=sys.stderr, flush=True)
    seen = alive
    time.sleep(0.2 if seen < size else 0)
' "$size" "$address" || exit
RAY_ADDRESS=${RAY_ADDRESS:-$address}
export RAY_ADDRESS
exec "$@"
"""
)

_NODE = (
    _FIND_PYTHON
    + """\
"$python" -c '
import socket, sys, time
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()
    except OSError:
        time.sleep(0.2)
    else:
        break
' "$1" "$2" || exit
exec ray start --address="$3" --node-ip-address="$4" --block
"""
)

_DAEMONS = ("gcs_server", "raylet")
_NODE_DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
_ORIGINS = {
    "ray start": "Ray needs a node on every rank, at an address that the other ranks reach.",
    "RAY_ADDRESS": "Rank 0's command joins this Unit's cluster.",
    _NODE_DRAIN: "The Unit drains as a whole; a node has nothing left to wait for.",
}
_JOBS = (("ray", "job"),)
_OWN = (("ray", "start"), ("ray", "symmetric-run"))
_JOB_SERVER = "RAY_API_SERVER_ADDRESS"


def plan_ray_cluster(
    context: RankContext, argv: Sequence[str], env: Mapping[str, str], *, dashboard: bool = False
) -> LaunchPlan:
    """Return the plan of a rank: rank 0 runs the head and then ``argv``, the others a node.

    The job server of ``ray job submit`` is part of the dashboard.
    """
    return LaunchPlan(
        argv=_wrap_command(context, argv, dashboard=dashboard),
        env={} if env.get(_NODE_DRAIN) else {_NODE_DRAIN: "0"},
        origins=_ORIGINS,
        required_processes=_DAEMONS,
    )


def _wrap_command(context: RankContext, argv: Sequence[str], *, dashboard: bool) -> tuple[str, ...]:
    port = str(context.master_port)
    address = join_host_port(context.master_address, context.master_port)
    if context.rank:
        where = (context.master_address, port, address, context.rank_ip)
        return ("/bin/sh", "-c", _NODE, "ray-node", *where)
    shown = "true" if dashboard else "false"
    return (
        "/bin/sh",
        "-c",
        _HEAD,
        "ray-head",
        str(context.size),
        context.rank_ip,
        port,
        address,
        shown,
        *argv,
    )


def is_ray_cluster(argv: Sequence[str]) -> bool:
    """Whether this is what :func:`plan_ray_cluster` made."""
    return any(tuple(argv[:3]) == ("/bin/sh", "-c", text) for text in (_HEAD, _NODE))


class Ray:
    """Any command that uses Ray; see the module."""

    name = "ray"
    example = ""  # it completes any command

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether the command clearly needs Ray: ``ray job …``, or one that starts Ray itself."""
        return split_at_engine(argv, (*_JOBS, *_OWN)) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Wrap ``argv`` for one rank."""
        if context.size == 1 or split_at_engine(argv, _OWN) or is_ray_cluster(argv):
            return LaunchPlan(argv=argv)
        jobs = split_at_engine(argv, _JOBS) is not None
        plan = plan_ray_cluster(context, argv, env, dashboard=jobs)
        if not jobs or context.rank or env.get(_JOB_SERVER):
            return plan
        return replace(
            plan,
            env={**plan.env, _JOB_SERVER: f"http://127.0.0.1:{context.master_port + 1}"},
            origins={**plan.origins, _JOB_SERVER: "Jobs go to the job server of rank 0."},
        )


FRAMEWORK: Framework = Ray()
