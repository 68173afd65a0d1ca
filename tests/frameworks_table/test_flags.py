from __future__ import annotations

import pytest

from tests.frameworks_table.places import line, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.flags import Flag

NODE_RANK = Flag("--node-rank", ("-r",))


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("--node-rank 1", "1"),
        ("--node-rank=1", "1"),
        ("--node_rank 1", "1"),
        ("--node_rank=1", "1"),
        ("-r 1", "1"),
        ("-r=1", "1"),
        ("-r1", "1"),
        ("--node-rank 1 --node-rank 2", "2"),
        ("--node-rank", ""),
        ("--node-rank=", ""),
        ("--node-ranks 1", None),
        ("-ro 1", None),
        ("-rank 1", None),
        ("node-rank 1", None),
        ("", None),
    ],
)
def test_spellings(words: str, value: str | None) -> None:
    assert NODE_RANK.read_value(words.split()) == value


@pytest.mark.parametrize("text", ["auto", "", "-1", "1:2", "²"])
def test_a_value_that_is_no_number(text: str) -> None:
    assert NODE_RANK.read_number([f"--node-rank={text}"]) is None


@pytest.mark.parametrize("spelling", ["--nnodes 3", "--nnodes=3", "-n 3", "-n=3", "-n3"])
def test_a_contradiction_is_seen_in_every_spelling(spelling: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--nnodes 3: the Unit has 2 instances; .*\{UNIT_SIZE\}"):
        line("vllm", f"vllm serve M {spelling}", place())


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        line("sglang", "sglang serve --nnodes 3 --node-rank 1", place())
    assert caught.value.problems == (
        "--nnodes 3: the Unit has 2 instances; leave it out or write {UNIT_SIZE}",
        "--node-rank 1: this instance has rank 0; leave it out or write {RANK_ID}",
    )


def test_a_value_that_is_missing_is_no_number_either() -> None:
    with pytest.raises(ConfigurationError, match="--nnodes : the Unit has 2"):
        line("vllm", "vllm serve M --nnodes=", place())
