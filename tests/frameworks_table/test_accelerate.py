"""Accelerate's launcher: command lines in and out."""

from __future__ import annotations

import pytest

from tests.frameworks_table.places import PORT, bare, offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.completer import complete_command

PLACE = f"--num_machines 2 --machine_rank 1 --main_process_ip 10.0.0.1 --main_process_port {PORT}"


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        ("accelerate launch", "--num_processes 4 train.py"),
        ("numactl -N 0 accelerate-launch", "a.py"),
        ("python -m accelerate.commands.launch", "--use_fsdp -m train --num_machines 9"),
    ],
)
def test_it_is_told_its_place(start: str, rest: str) -> None:
    assert bare("auto", f"{start} {rest}", place(1)) == f"{start} {PLACE} {rest}"


def test_what_the_user_wrote_stays() -> None:
    flags = "--num-machines=2 --machine_rank 1 --main_process_ip h a.py"
    made = bare("auto", f"accelerate launch {flags}", place(1))
    assert made == f"accelerate launch --main_process_port {PORT} {flags}"


def test_nothing_is_added_to_a_unit_of_one() -> None:
    assert bare("auto", "accelerate launch a.py", place(0, 1)) == "accelerate launch a.py"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--num_machines 3", "--num_machines 3: the Unit has 2 instances"),
        ("--machine_rank 0", "--machine_rank 0: this instance has rank 1; leave it out or write {RANK_ID}"),
        (
            "--num_processes 3",
            "--num_processes 3: it counts the processes of all ranks, and the Unit has 2",
        ),
    ],
)
def test_what_contradicts_the_unit(flags: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        bare("accelerate", f"accelerate launch {flags} a.py", place(1))


def test_megatrons_script_finds_the_unit_in_its_variables() -> None:
    """As in Megatron-LM's ``examples/``: a line of torchrun whose numbers have defaults."""
    text = """
        GPUS_PER_NODE=8
        NUM_NODES=${NNODES:-1}
        NODE_RANK=${NODE_RANK:-0}
        DISTRIBUTED_ARGS="--nproc_per_node $GPUS_PER_NODE --nnodes $NUM_NODES --node_rank $NODE_RANK"
        torchrun $DISTRIBUTED_ARGS pretrain_gpt.py --tensor-model-parallel-size 8
    """
    for rank in (0, 1):
        at = place(rank)
        made = complete_command("auto", ("bash", "-c", text), offered(at), "/", lambda *_, at=at: at)
        assert made.notices == ()
        assert made.plan is not None
        assert f"--nnodes 2 --node_rank {rank} pretrain_gpt.py" in made.plan.argv[2]


@pytest.mark.parametrize("command", ["python train.py", "./start.sh --x", "mpirun -n 2 ./a"])
def test_what_auto_does_not_recognize_is_said(command: str) -> None:
    made = complete_command("auto", tuple(command.split()), {}, "/", lambda *_: place(0))
    assert made.plan is None
    (said,) = made.notices
    assert "no framework recognizes it (UNIT_FRAMEWORK=auto)" in said
