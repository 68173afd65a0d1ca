"""DeepSpeed's launcher without ssh: each rank starts its own processes.

The invariant: as with torchrun, everything after the program belongs to the program.

Sources: DeepSpeed ``deepspeed/launcher/runner.py``. Even with ``--no_ssh`` it counts nodes and their GPUs in
a hostfile, so one is written at each start, from the address table and the GPUs of this rank; all ranks are
assumed to have the same number (``--num_gpus`` overrides it). The user's own hostfile is used unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from unitagent.frameworks.command import split_at_engine
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.torchrun import take_own_options

_STARTS = (("deepspeed",), ("-m", "deepspeed"), ("-m", "deepspeed.launcher.runner"))

_NO_SSH = Flag("--no_ssh")
_NODE_RANK = Flag("--node_rank")
_MASTER_ADDR = Flag("--master_addr")
_MASTER_PORT = Flag("--master_port")
_HOSTFILE = Flag("--hostfile", ("-H",))
_NUM_NODES = Flag("--num_nodes")

_WITHOUT_VALUE = frozenset(
    {
        "--module",
        "--no-python",
        "--no-local-rank",
        "--no-ssh",
        "--no-ssh-check",
        "--force-multi",
        "--save-pid",
        "--elastic-training",
        "--bind-cores-to-rank",
    }
)

# The folder may be shared: the file replaces a link or a pipe of another user instead of writing to it; if
# that is not
# permitted (a sticky /tmp), nothing starts.
_WRITE_HOSTS = """\
path=$1 hosts=$2
shift 2
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
[ "$gpus" -gt 0 ] || gpus=1
made=$(mktemp -- "$path.XXXXXX") || exit
for host in $hosts; do echo "$host slots=$gpus"; done >"$made" || exit
mv -fT -- "$made" "$path" || { rm -f -- "$made"; exit 1; }
exec "$@"
"""


class DeepSpeed:
    """``deepspeed PROGRAM …``; see the module."""

    name = "deepspeed"
    example = "deepspeed PROGRAM"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts DeepSpeed's launcher."""
        return split_at_engine(argv, _STARTS) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_at_engine(argv, _STARTS)
        if command is None or context.size == 1:
            return LaunchPlan(argv=argv)
        words = tuple(take_own_options(command.words, _WITHOUT_VALUE))
        completer = FlagCompleter(words, env)
        _place_rank(context, completer, words)
        if _HOSTFILE.is_set(words):
            return LaunchPlan(argv=command.insert_options(completer.build_words()), origins=completer.origins)
        path = f"{env.get('TMPDIR') or '/tmp'}/unitagent-{context.unit}-{context.rank}.hosts"  # noqa: S108 (no secret)
        completer.add_default(_HOSTFILE, path, "DeepSpeed counts the nodes in a hostfile even without ssh.")
        written = ("/bin/sh", "-c", _WRITE_HOSTS, "deepspeed-hosts", path, " ".join(context.rank_ips))
        return LaunchPlan(
            argv=(*written, *command.insert_options(completer.build_words())), origins=completer.origins
        )


FRAMEWORK: Framework = DeepSpeed()


def _place_rank(context: RankContext, completer: FlagCompleter, words: tuple[str, ...]) -> None:
    completer.add_switch(_NO_SSH, "Every rank starts its own processes.")
    completer.require_value(_NODE_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
    completer.add_default(_MASTER_ADDR, context.master_address, "The ranks meet at the address of rank 0.")
    completer.add_default(
        _MASTER_PORT, context.master_port, "The ranks meet at a port free in this generation."
    )
    stated = _NUM_NODES.read_value(words)
    if stated not in (None, "-1", str(context.size)):
        completer.add_problem(f"--num_nodes {stated}: the Unit has {context.size} instances; leave it out")
