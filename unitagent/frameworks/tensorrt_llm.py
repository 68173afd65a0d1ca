"""TensorRT-LLM over several machines: one MPI world, started by rank 0 over ssh.

The invariant: the user provides MPI (image and keys), the agent only the command lines. The image needs Open
MPI, sshd in ``/usr/sbin`` and a key that all ranks accept; every other rank listens for ssh on port 2222,
like in Dynamo's operator (``backend_trtllm.go``). Containers are recreated with new host keys, so these are
not checked.

Sources: TensorRT-LLM ``tensorrt_llm/llmapi/trtllm-llmapi-launch``, and its manual of ``trtllm-serve``, which
listens on localhost by default. After a rank has crashed, it may stay alive and answer 503 for ever, so its
health check matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from unitagent.engine_commands import TENSORRT_LLM
from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import SplitCommand, split_assumed, split_at_engine
from unitagent.frameworks.flags import Flag, FlagCompleter
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext
from unitagent.frameworks.listen_address import HOST, ListenFlags, choose_wildcard

_LAUNCH = "trtllm-llmapi-launch"
_MPI = (("mpirun",), ("mpiexec",))

_TENSOR = Flag("--tp_size", ("--tensor-parallel-size",))
_PIPELINE = Flag("--pp_size", ("--pipeline-parallel-size",))

_LISTEN = ListenFlags(8000)
_SSH_PORT = "2222"
_SSH_OPTIONS = (  # retries for a minute: all ranks start at once, and rank 0 may be first
    f"-p {_SSH_PORT} -o ConnectionAttempts=60 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
)
_SSHD = f"""\
mkdir -p /run/sshd
ssh-keygen -A
exec /usr/sbin/sshd -D -e -p {_SSH_PORT}
"""

# ssh starts with an empty environment. Variables of one rank (RANK_ID, RANK_IP …) must not reach another.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "TMPDIR", "MASTER_ADDRESS", "MASTER_PORT")
_PASSED_PREFIXES = ("CUDA_", "GLOO_", "HF_", "HUGGING", "NCCL_", "OMP_", "TLLM_", "TORCH", "TRTLLM_", "UCX_")


class TensorRtLlm:
    """``trtllm-serve MODEL --tp_size 16 …``; see the module."""

    name = "tensorrt-llm"
    example = "trtllm-serve MODEL --tp_size N"

    def recognizes(self, argv: tuple[str, ...]) -> bool:
        """Whether it starts TensorRT-LLM's server."""
        return split_at_engine(argv, TENSORRT_LLM) is not None

    def plan(self, context: RankContext, argv: tuple[str, ...], env: Mapping[str, str]) -> LaunchPlan:
        """Complete ``argv`` for one rank.

        Raises:
            ConfigurationError: the number of processes is unknown or not divisible, or the Unit has IPv6
                addresses.

        """
        command = split_assumed(argv, TENSORRT_LLM)
        if command is None:
            return LaunchPlan(argv=argv)
        if context.size > 1 and not split_at_engine(argv, _MPI):
            _refuse_ipv6(context)
        processes = (
            1 if context.size == 1 or split_at_engine(argv, _MPI) else _count_processes(context, command)
        )
        if context.rank:
            origin = {"sshd": "Rank 0 starts the processes of this rank over ssh."}
            return LaunchPlan(argv=("/bin/sh", "-c", _SSHD, "sshd"), origins=origin)
        if context.size == 1 or split_at_engine(argv, _MPI):
            return _add_endpoints(LaunchPlan(argv=argv), command)
        completer = FlagCompleter(command.words, env)
        completer.add_default(HOST, choose_wildcard(context.rank_ip), "Requests come from other machines.")
        argv = _wrap_in_mpirun(context, command.append_options(completer.build_words()), processes, env)
        origin = {"mpirun": "TensorRT-LLM is one MPI world, which rank 0 starts on all ranks."}
        plan = LaunchPlan(argv=argv, origins={**origin, **completer.origins})
        return _add_endpoints(plan, command)


FRAMEWORK: Framework = TensorRtLlm()


def _refuse_ipv6(context: RankContext) -> None:
    ipv6 = next((ip for ip in context.rank_ips if ":" in ip), None)
    if ipv6:
        raise ConfigurationError(
            f"RANK_IP={ipv6}: must be an IPv4 address, because mpirun takes hosts as ADDRESS:SLOTS; set "
            "RANK_IP to an IPv4 address on every rank"
        )


def _wrap_in_mpirun(
    context: RankContext, argv: tuple[str, ...], per_rank: int, env: Mapping[str, str]
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
        *("--mca", "pml", "ob1", *_select_interface(context.ifname), "--mca", "plm_rsh_args", _SSH_OPTIONS),
        *(word for name in _list_passed_variables(env) for word in ("-x", name)),
        *launch,
        *argv,
    )


def _select_interface(ifname: str) -> tuple[str, ...]:
    if not ifname:
        return ()
    return ("--mca", "btl_tcp_if_include", ifname, "--mca", "oob_tcp_if_include", ifname)


def _count_processes(context: RankContext, command: SplitCommand) -> int:
    tensor, pipeline = _TENSOR.read_number(command.words), _PIPELINE.read_number(command.words) or 1
    if not tensor:
        raise ConfigurationError(
            "--tp_size missing: it determines the number of MPI processes; add it to the command, even if it "
            "is also in a configuration file"
        )
    if tensor * pipeline % context.size:
        raise ConfigurationError(
            f"--tp_size {tensor} with --pp_size {pipeline}: {tensor * pipeline} processes cannot be divided "
            f"evenly among the {context.size} instances of the Unit; change them or UNIT_SIZE"
        )
    return tensor * pipeline // context.size


def _list_passed_variables(env: Mapping[str, str]) -> Iterator[str]:
    return (name for name in sorted(env) if name in _PASSED_ON or name.startswith(_PASSED_PREFIXES))


def _add_endpoints(plan: LaunchPlan, command: SplitCommand) -> LaunchPlan:
    plan, address = (
        replace(plan, stated_port=_LISTEN.read_port_text(command.words)),
        _LISTEN.find_address(command.words),
    )
    return plan if address is None else replace(plan, traffic_port=address.port, health=address.health_url)
