"""What holds for every framework, command and place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.frameworks_table.places import offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.completer import FRAMEWORKS
from unitagent.frameworks.interface import Framework, LaunchPlan, RankContext

STARTS = (
    "vllm serve M",
    "python -m vllm.entrypoints.openai.api_server --model M",
    "sglang serve",
    "torchrun",
    "deepspeed",
    "lmdeploy serve api_server M",
    "trtllm-serve M",
    "ray job submit",
    "bash -c text",
    "wrapper",
)
WORDS = (
    *("--nnodes", "--nnodes=2", "-n2", "-n", "--node-rank", "--node_rank=1", "--master-addr", "--headless"),
    *(
        "-dp",
        "--data-parallel-size=4",
        "-dph",
        "-dpb=ray",
        "--data-parallel-external-lb",
        "--dp",
        "--backend=pytorch",
    ),
    *(
        "--distributed-executor-backend",
        "ray",
        "--rdzv-backend=c10d",
        "--rdzv-id",
        "--rdzv-conf=timeout=9",
        "--rdzv-endpoint=h:1",
        "--hostfile",
        "-H",
        "--no_ssh",
    ),
    *(
        "--tp_size=8",
        "--port",
        "--port=1",
        "--host",
        "a.py",
        "--",
        "",
        "1",
        "2",
        "4",
        "--api-server-count=2",
        "mpirun",
    ),
)
places = st.integers(1, 4).flatmap(lambda size: st.integers(0, size - 1).map(lambda rank: place(rank, size)))
commands = st.tuples(st.sampled_from(STARTS), st.lists(st.sampled_from(WORDS), max_size=6)).map(
    lambda parts: (*parts[0].split(), *parts[1])
)
frameworks = st.sampled_from(FRAMEWORKS)


def attempt(framework: Framework, at: RankContext, argv: tuple[str, ...]) -> LaunchPlan | None:
    try:
        return framework.plan(at, argv, offered(at))
    except ConfigurationError:
        return None


def in_order(words: tuple[str, ...], within: tuple[str, ...]) -> bool:
    rest = iter(within)
    return all(word in rest for word in words)


@given(frameworks, places, commands)
def test_planning_twice_changes_nothing(framework: Framework, at: RankContext, argv: tuple[str, ...]) -> None:
    once = attempt(framework, at, argv)
    if once is not None:
        again = framework.plan(at, once.argv, {**offered(at), **once.env})
        assert again.argv == once.argv
        assert set(again.env.items()) <= set(once.env.items())


@given(frameworks, places, commands)
def test_the_users_words_keep_their_order(
    framework: Framework, at: RankContext, argv: tuple[str, ...]
) -> None:
    made = attempt(framework, at, argv)
    instead = framework.name in {"ray", "tensorrt-llm", "vllm", "lmdeploy"} and at.rank > 0
    if made is not None and not (instead and made.argv[:2] == ("/bin/sh", "-c")):
        users = tuple(word for word in argv if word != "vllm.entrypoints.openai.api_server")
        assert in_order(users, made.argv)


@given(frameworks, commands)
def test_nothing_is_added_to_a_unit_of_one(framework: Framework, argv: tuple[str, ...]) -> None:
    made = framework.plan(place(0, 1), argv, {})
    assert (made.argv, made.env, made.origins) == (argv, {}, {})


@given(frameworks, places, commands)
def test_only_rank_0_is_asked_for_its_health(
    framework: Framework, at: RankContext, argv: tuple[str, ...]
) -> None:
    made = attempt(framework, at, argv)
    if made is not None and at.rank:
        assert made.health is None
