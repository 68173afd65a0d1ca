from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.frameworks_table.places import place, plan
from unitagent.errors import ConfigurationError
from unitagent.frameworks.completer import FRAMEWORKS, NAMES, choose_framework
from unitagent.settings.variables import VARIABLES


def test_names() -> None:
    assert set(NAMES) == {
        *(
            "none",
            "auto",
            "vllm",
            "sglang",
            "torchrun",
            "ray",
            "accelerate",
            "deepspeed",
            "lmdeploy",
            "tensorrt-llm",
        ),
    }


@pytest.mark.parametrize("name", [each.name for each in FRAMEWORKS])
def test_an_explicit_name_is_taken_at_its_word(name: str) -> None:
    chosen = choose_framework(name, ["anything"])
    assert chosen is not None
    assert chosen.name == name


def test_none() -> None:
    assert choose_framework("none", ["vllm", "serve"]) is None


@pytest.mark.parametrize("name", ["VLLM", "", "pytorch"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"UNIT_FRAMEWORK={name!r}: must be one of none"):
        choose_framework(name, ["vllm"])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("vllm serve M", "vllm"),
        ("env X=1 vllm serve M", "vllm"),
        ("numactl -N 0 /opt/venv/bin/vllm serve M", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server --model M", "vllm"),
        ("python3 -m sglang.launch_server --model-path M", "sglang"),
        ("sglang serve --model-path M", "sglang"),
        ("torchrun a.py", "torchrun"),
        ("python -m torch.distributed.run a.py", "torchrun"),
        ("torchrun --no-python vllm serve M", "torchrun"),
        ("deepspeed a.py", "deepspeed"),
        ("accelerate launch a.py", "accelerate"),
        ("uv run accelerate launch a.py", "accelerate"),
        ("python -m accelerate.commands.launch a.py", "accelerate"),
        ("accelerate config", None),
        ("accelerate launch torchrun a.py", "torchrun"),
        ("ray job submit -- vllm serve M", "ray"),
        ("ray job submit -- bash -c x", "ray"),
        ("ray job submit -- torchrun a.py", "ray"),
        ("python train.py --launcher torchrun --lr 1", None),
        ("python train.py torchrun", None),
        ("python train.py --strategy deepspeed", None),
        ("python3.12 -m train torchrun", None),
        ("trainer --launcher torchrun", None),
        ("trainer --strategy deepspeed a.py", None),
        ("deepspeed a.py --launcher torchrun", "deepspeed"),
        ("torchrun a.py ray job submit", "torchrun"),
        ("python -u -m debugpy --listen 1 -m vllm.entrypoints.openai.api_server", "vllm"),
        ("numactl --localalloc -m 0 torchrun a.py", "torchrun"),
        ("numactl --localalloc torchrun a.py", "torchrun"),
        ("uv run --frozen torchrun a.py", "torchrun"),
        ("wrapper --fast vllm serve M", "vllm"),
        ("wrapper --fast python -m torch.distributed.run a.py", "torchrun"),
        ("conda run --no-capture-output torchrun a.py", "torchrun"),
        ("uv run --python=3.12 torchrun a.py", "torchrun"),
        ("env --chdir=/src -- torchrun a.py", "torchrun"),
        ("lmdeploy serve api_server M", "lmdeploy"),
        ("mpirun trtllm-llmapi-launch trtllm-serve M", "tensorrt-llm"),
        ("vllm bench serve", None),
        ("vllm", None),
        ("python -m vllm", None),
        ("sleep 1", None),
        ("", None),
    ],
)
def test_auto(command: str, name: str | None) -> None:
    chosen = choose_framework("auto", command.split())
    assert (chosen.name if chosen else None) == name


@pytest.mark.parametrize(
    "shell", ["sh -c", "bash -c", "bash -euc", "/bin/bash -lc", "env A=b bash -c", "busybox sh -c"]
)
def test_a_shells_text_is_left_alone(shell: str) -> None:
    argv = (*shell.split(), "vllm serve M --port 1", "vllm", "serve")
    assert choose_framework("auto", argv) is None
    for framework in FRAMEWORKS:
        if framework.name != "ray":  # which wraps a command whole
            assert framework.plan(place(0), argv, {}).argv == argv


@pytest.mark.parametrize(
    ("framework", "command"),
    [
        ("vllm", "vllm bench serve"),
        ("vllm", "/opt/bin/vllm run-batch -i x"),
        ("vllm", "python -m vllm.entrypoints.cli.main bench serve"),
        ("sglang", "sglang generate"),
        ("lmdeploy", "lmdeploy chat M"),
        ("torchrun", "python train.py --launcher torchrun"),
        ("deepspeed", "python train.py --strategy deepspeed"),
    ],
)
def test_a_command_that_does_something_else_is_left_alone(framework: str, command: str) -> None:
    made = plan(framework, command, place(1))
    assert (" ".join(made.argv), made.env, made.origins, made.traffic_port) == (command, {}, {}, None)


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda each: each.name)
def test_an_empty_command_is_no_crash(framework: object) -> None:
    chosen = next(each for each in FRAMEWORKS if each is framework)
    assert chosen.plan(place(0, 1), (), {}).argv == ()


def test_the_variable_accepts_every_framework() -> None:
    kind = VARIABLES["UNIT_FRAMEWORK"].kind
    assert [kind.parse(name) for name in NAMES] == list(NAMES)
    assert set(re.split(r", | or ", kind.accepted)) == set(NAMES)


def test_every_framework_has_a_row_in_the_readme_of_frameworks() -> None:
    page = Path(__file__).parents[2] / "unitagent" / "frameworks" / "README.md"
    rows = page.read_text().partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", rows, re.MULTILINE)) == {each.name for each in FRAMEWORKS}
