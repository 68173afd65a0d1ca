"""TensorRT-LLM over several machines: one MPI world, started by rank 0 over ssh.

The invariant: MPI itself is the user's (image and keys); only the command lines are ours. The image needs
Open MPI, sshd at ``/usr/sbin`` and a key that all ranks accept; rank k listens for ssh on port 2222, as
Dynamo's operator has it (``backend_trtllm.go``). Containers are rebuilt with new host keys, so these are
not checked.

Sources: TensorRT-LLM ``tensorrt_llm/llmapi/trtllm-llmapi-launch``, and its manual of ``trtllm-serve``, which
listens at localhost by default. After the crash of a rank it may stay alive and answer 503 for ever, so
health is what tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from unitagent.engine_commands import TENSORRT_LLM
from unitagent.errors import ConfigurationError
from unitagent.frameworks.adapter import Context, Plan
from unitagent.frameworks.command import Command, recognize, vouched
from unitagent.frameworks.flags import Flag, Missing
from unitagent.frameworks.serving import HOST, Door, everywhere

_LAUNCH = "trtllm-llmapi-launch"
_MPI = (("mpirun",), ("mpiexec",))

_TENSOR = Flag("--tp_size", ("--tensor-parallel-size",))
_PIPELINE = Flag("--pp_size", ("--pipeline-parallel-size",))

_DOOR = Door(8000)
_SSH_PORT = "2222"
_SSH_OPTIONS = (  # the connection is tried for a minute: all ranks start at once, rank 0 may be first
    f"-p {_SSH_PORT} -o ConnectionAttempts=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
)
_SSHD = f"""\
mkdir -p /run/sshd
ssh-keygen -A
exec /usr/sbin/sshd -D -e -p {_SSH_PORT}
"""

# ssh starts with an empty environment. What belongs to one rank (RANK_ID, RANK_IP …) must not reach another.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "TMPDIR", "MASTER_ADDRESS", "MASTER_PORT")
_PASSED_PREFIXES = ("CUDA_", "GLOO_", "HF_", "HUGGING", "NCCL_", "OMP_", "TLLM_", "TORCH", "TRTLLM_", "UCX_")


class TensorRtLlm:
    """``trtllm-serve MODEL --tp_size 16 …``; see the module."""

    name = "tensorrt-llm"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts TensorRT-LLM's server."""
        return recognize(argv, TENSORRT_LLM) is not None

    def plan(self, context: Context, argv: tuple[str, ...], env: Mapping[str, str]) -> Plan:
        """Complete ``argv`` for one rank.

        Raises:
            ConfigurationError: the flags do not tell how many processes there are, or they do not divide; or
                the Unit has IPv6 addresses.

        """
        command = vouched(argv, TENSORRT_LLM)
        if command is None:
            return Plan(argv=argv)
        if context.size > 1 and not recognize(argv, _MPI):
            _refuse_ipv6(context)
        processes = 1 if context.size == 1 or recognize(argv, _MPI) else _processes(context, command)
        if context.rank:
            origin = {"sshd": "Rank 0 starts the processes of this rank over ssh."}
            return Plan(argv=("/bin/sh", "-c", _SSHD, "sshd"), origins=origin)
        if context.size == 1 or recognize(argv, _MPI):
            return _served(Plan(argv=argv), command)
        missing = Missing(command.words, env)
        missing.offer(HOST, everywhere(context.rank_ip), "Requests come from other machines.")
        argv = _mpirun(context, command.appended(missing.words()), processes, env)
        origin = {"mpirun": "TensorRT-LLM is one MPI world, which rank 0 starts on all ranks."}
        plan = Plan(argv=argv, origins={**origin, **missing.origins})
        return _served(plan, command)


def _refuse_ipv6(context: Context) -> None:
    odd = next((ip for ip in context.rank_ips if ":" in ip), None)
    if odd:
        raise ConfigurationError(
            f"RANK_IP={odd}: mpirun takes hosts as ADDRESS:SLOTS, where IPv6 has no place; set RANK_IP to an "
            "IPv4 address on every rank"
        )


def _mpirun(
    context: Context, argv: tuple[str, ...], per_rank: int, env: Mapping[str, str]
) -> tuple[str, ...]:
    hosts = ",".join(f"{ip}:{per_rank}" for ip in context.rank_ips)
    launch = () if _LAUNCH in argv else (_LAUNCH,)
    return (
        *(
            "mpirun",
            "--allow-run-as-root",
            "--oversubscribe",
            "-n",
            str(per_rank * context.size),
            "-H",
            hosts,
        ),
        *("--mca", "pml", "ob1", *_card(context.ifname), "--mca", "plm_rsh_args", _SSH_OPTIONS),
        *(word for name in _passed_on(env) for word in ("-x", name)),
        *launch,
        *argv,
    )


def _card(ifname: str) -> tuple[str, ...]:
    if not ifname:
        return ()
    return ("--mca", "btl_tcp_if_include", ifname, "--mca", "oob_tcp_if_include", ifname)


def _processes(context: Context, command: Command) -> int:
    tensor, pipeline = _TENSOR.number(command.words), _PIPELINE.number(command.words) or 1
    if not tensor:
        raise ConfigurationError(
            "--tp_size is missing: the number of MPI processes follows from it; write it in the command, "
            "even if it is in a configuration file too"
        )
    if tensor * pipeline % context.size:
        raise ConfigurationError(
            f"--tp_size {tensor} with --pp_size {pipeline}: {tensor * pipeline} processes cannot be divided "
            f"among the {context.size} instances of the Unit; change them or UNIT_SIZE"
        )
    return tensor * pipeline // context.size


def _passed_on(env: Mapping[str, str]) -> Iterator[str]:
    return (name for name in sorted(env) if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES))


def _served(plan: Plan, command: Command) -> Plan:
    plan, door = replace(plan, said_port=_DOOR.said(command.words)), _DOOR.opened(command.words)
    return plan if door is None else replace(plan, traffic_port=door.port, health=door.health)
