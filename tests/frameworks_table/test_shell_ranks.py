"""A shell's text that goes another way on each rank, or brings the ranks together by itself."""

from __future__ import annotations

import pytest

from tests.frameworks_table.places import place
from tests.frameworks_table.test_shell_text import completed, made

BY_RANK = {
    "a platform's name": 'if [ "$LWS_WORKER_INDEX" != 0 ]; then ./worker.sh; fi',
    "a launcher's name": '[ "$NODE_RANK" = 0 ] || ./worker.sh',
    "an address": '[ "$RANK_IP" = "$MASTER_ADDRESS" ] || ./worker.sh',
    "a host's name": 'case "$HOSTNAME" in *-0) ;; *) ./worker.sh ;; esac',
    "a host's name by a command": '[ "$(hostname)" = node0 ] || ./worker.sh',
    "what is made of one": "ORDINAL=${HOSTNAME##*-}; N=$ORDINAL; test $N -gt 0 && ./worker.sh",
    "arithmetic": "((RANK_ID > 0)) && ./worker.sh",
    "an expression": "[[ RANK_ID -gt 0 ]] && ./worker.sh",
    "two of them": "[[ -d / && $RANK_ID -gt 0 ]] && ./worker.sh",
    "one's own test": '[ -d /nowhere ] || true; is_first "$RANK_ID" || ./worker.sh',
    "the second case": "if [ -d /nowhere ]; then :; elif [ $RANK_ID = 1 ]; then ./worker.sh; fi",
}  # fmt: skip
ON_ALL = {
    "a folder": "if [ -d /x ]; then . /x/env; fi; mkdir -p /logs/$RANK_ID",
    "a file": "if [ -d /x ]; then :; fi; LOG=/logs/$HOSTNAME.log",
    "a pause": "sleep $((RANK_ID * 5))",
    "whether it is there": '[ -n "$RANK_ID" ] || exit 1',
    "whether it is not": 'if [ -z "$LWS_WORKER_INDEX" ]; then echo none; fi',
    "rank 0's address": "until nc -z $MASTER_ADDRESS 22; do sleep 1; done",
}
CLUSTERS = (
    "bash /vllm-workspace/examples/multi-node-serving.sh leader --ray_cluster_size=$LWS_GROUP_SIZE",
    "./start_ray.sh",
    "python3 init-ray.py --head",
)


@pytest.mark.parametrize("text", BY_RANK.values(), ids=BY_RANK)
def test_who_decides_by_the_rank_is_left_alone(text: str) -> None:
    found = completed(("bash", "-c", f"{text}; vllm serve m"), place(0))
    assert found.plan is None
    assert "its control flow depends on " in found.notices[0]


@pytest.mark.parametrize("text", ON_ALL.values(), ids=ON_ALL)
def test_who_only_uses_it_is_not(text: str) -> None:
    assert "--nnodes 2" in made(("bash", "-c", f"{text}; vllm serve m"), place(0)).argv[2]


@pytest.mark.parametrize("text", CLUSTERS)
def test_nothing_is_added_beside_a_cluster_of_the_users(text: str) -> None:
    found = completed(("bash", "-c", f"{text}; vllm serve m -tp 8 --pipeline-parallel-size 2"), place(0))
    assert found.plan is None
    assert "it starts its own Ray cluster" in found.notices[0]


@pytest.mark.parametrize(
    "text", ["ray stop --force", "pip install 'ray[default]'", "export RAY_DEDUP_LOGS=0"]
)
def test_who_only_speaks_of_ray_makes_none(text: str) -> None:
    assert "--nnodes 2" in made(("bash", "-c", f"{text}; vllm serve m"), place(0)).argv[2]
