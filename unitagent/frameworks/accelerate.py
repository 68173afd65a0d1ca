"""Hugging Face Accelerate's launcher, which wraps torchrun under other flag names.

The invariant: as with torchrun, everything after the program belongs to the program.

Sources: Accelerate 1.15 ``commands/launch.py`` and ``utils/launch.py``. ``--num_processes`` counts the
processes of all machines, of which each starts its share. The command line overrides the user's configuration
file (``accelerate config``).
"""

from __future__ import annotations

from collections.abc import Mapping

from unitagent.engine_commands import ACCELERATE
from unitagent.frameworks.command import split_at_engine
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.torchrun import take_own_options
from unitagent.system.host_port import bracket_ipv6

_MACHINES = Flag("--num_machines")
_RANK = Flag("--machine_rank")
_IP = Flag("--main_process_ip")
_PORT = Flag("--main_process_port")
_PROCESSES = Flag("--num_processes")

_WITHOUT_VALUE = frozenset(
    {
        *("-m", "--module", "--no-python", "--cpu", "--multi-gpu", "--same-network"),
        *("--quiet", "-q", "--debug"),
        *("--use-deepspeed", "--use-fsdp", "--use-megatron-lm", "--use-parallelism-config"),
        *("--enable-cpu-affinity", "--downcast-bf16", "--fp8-use-autocast-during-eval"),
        *("--dynamo-use-dynamic", "--dynamo-use-fullgraph", "--dynamo-use-regional-compilation"),
        *("--tpu", "--tpu-cluster", "--no-tpu-cluster", "--tpu-use-sudo"),
    }
)


class Accelerate:
    """``accelerate launch --num_processes 16 PROGRAM …``; see the module."""

    name = "accelerate"
    example = "accelerate launch PROGRAM"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts Accelerate's launcher."""
        return split_at_engine(argv, ACCELERATE) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank."""
        command = split_at_engine(argv, ACCELERATE)
        if command is None or context.size == 1:
            return LaunchPlan(argv=argv)
        words = tuple(take_own_options(command.words, _WITHOUT_VALUE))
        completer = FlagCompleter(words, env)
        fact = f"the Unit has {context.size} instances"
        completer.require_value(_MACHINES, context.size, fact, "{UNIT_SIZE}")
        completer.require_value(_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
        where = bracket_ipv6(context.master_address)
        completer.add_default(_IP, where, "The ranks meet at the address of rank 0.")
        completer.add_default(_PORT, context.master_port, "The ranks meet at a port free in this generation.")
        processes = _PROCESSES.read_number(words)
        if processes is not None and (processes == 0 or processes % context.size):
            counted = f"--num_processes {processes}: it counts the processes of all ranks"
            completer.add_problem(f"{counted}, and {fact}; use a multiple of {context.size}")
        return LaunchPlan(argv=command.insert_options(completer.build_words()), origins=completer.origins)


FRAMEWORK: Framework = Accelerate()
