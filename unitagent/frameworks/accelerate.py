"""Hugging Face Accelerate's launcher: one of torchrun's, with names of its own.

The invariant: as with torchrun, what follows the program belongs to the program.

Sources: Accelerate 1.15 ``commands/launch.py`` and ``utils/launch.py``. ``--num_processes`` counts those of
all machines, and each starts its share of them. What stands in a file of the user's (``accelerate config``)
is overruled by the command line.
"""

from __future__ import annotations

from collections.abc import Mapping

from unitagent.engine_commands import ACCELERATE
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import recognize
from unitagent.frameworks.flags import Flag, Missing
from unitagent.frameworks.serving import bracketed
from unitagent.frameworks.torchrun import own_options

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

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts Accelerate's launcher."""
        return recognize(argv, ACCELERATE) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Complete ``argv`` for one rank."""
        command = recognize(argv, ACCELERATE)
        if command is None or context.size == 1:
            return Plan(argv=argv)
        words = tuple(own_options(command.words, _WITHOUT_VALUE))
        missing = Missing(words, env)
        fact = f"the Unit has {context.size} instances"
        missing.require(_MACHINES, context.size, fact, "{UNIT_SIZE}")
        missing.require(_RANK, context.rank, f"this instance has rank {context.rank}", "{RANK_ID}")
        where = bracketed(context.master_address)
        missing.offer(_IP, where, "The ranks meet at the address of rank 0.")
        missing.offer(_PORT, context.master_port, "The ranks meet at a port free in this generation.")
        processes = _PROCESSES.number(words)
        if processes is not None and (processes == 0 or processes % context.size):
            counted = f"--num_processes {processes}: it counts those of all ranks"
            missing.problem(f"{counted}, and {fact}; write a multiple")
        return Plan(argv=command.inserted(missing.words()), origins=missing.origins)
