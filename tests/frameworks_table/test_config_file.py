"""Flags in a file, ``--config FILE`` of vLLM and SGLang."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.frameworks_table.places import offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import UNKNOWN, UnreadableError
from unitagent.frameworks.completer import CompletedCommand, complete_command
from unitagent.frameworks.config_file import read_config_flags
from unitagent.frameworks.flags import Flag
from unitagent.frameworks.interface import LaunchPlan

VLLM, SGLANG = "vllm serve m --config c.yaml", "sglang serve --model-path m --config c.yaml"


def tried(
    folder: Path, command: str, text: str | None, rank: int = 0, name: str = "auto"
) -> CompletedCommand:
    if text is not None:
        (folder / "c.yaml").write_text(text)
    at = replace(place(rank), folder=str(folder))
    return complete_command(name, tuple(command.split()), offered(at), str(folder), lambda *_: at)


def planned(folder: Path, command: str, text: str, rank: int = 0) -> LaunchPlan:
    plan = tried(folder, command, text, rank).plan
    assert plan is not None
    return plan


@pytest.mark.parametrize("command", [VLLM, SGLANG])
@pytest.mark.parametrize(
    "text",
    [
        "port: 18001\n",
        "# ours\n---\n'port' : \"18001\"   # behind a proxy\nenforce-eager: true\n",
        "compilation-config:\n  port: 3\n  level: [1]\nport: 18001\nlist:\n- a\n- port: 5\n",
        "served-model-name: [a, b]\nenabled: off\nport: 18001 # comment",
    ],
)
def test_its_port_is_the_engines(tmp_path: Path, command: str, text: str) -> None:
    plan = planned(tmp_path, command, text)
    assert (plan.traffic_port, plan.health) == (18001, "http://127.0.0.1:18001/health")
    assert planned(tmp_path, f"{command} --port 18002", text).traffic_port == 18002


def test_a_cluster_of_ray_is_made_where_the_file_wants_one(tmp_path: Path) -> None:
    plan = planned(tmp_path, VLLM, "distributed_executor_backend: ray\n")
    assert plan.argv[3] == "ray-head"
    assert "--nnodes" not in plan.argv
    other = f"{VLLM} --distributed-executor-backend mp"
    plan = planned(tmp_path, other, "distributed_executor_backend: ray\n")
    assert "--nnodes" in plan.argv


def test_what_the_file_says_is_not_added_again(tmp_path: Path) -> None:
    assert "--nnodes" not in planned(tmp_path, VLLM, "nnodes: 2\n").argv
    plan = planned(tmp_path, SGLANG, "host: 10.0.0.1\nenable-metrics: yes\n")
    assert "--host" not in plan.argv
    assert (plan.health, plan.metrics_url) == (
        "http://10.0.0.1:30000/health",
        "http://10.0.0.1:30000/metrics",
    )
    assert "--data-parallel-size-local" in planned(tmp_path, VLLM, "data-parallel-size: 2\n").argv


def test_a_file_that_contradicts_the_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--nnodes 3: the Unit has 2 instances"):
        tried(tmp_path, VLLM, "nnodes: 3\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "--config c.yaml cannot be read: No such file or directory"),
        ("{port: 1}\n", "--config c.yaml, line 1: only NAME: VALUE can be read here"),
        ("  port: 18001\n  nnodes: 2\n", "--config c.yaml, line 1: only NAME: VALUE can be read here"),
        ("# ours\n\n- port: 18001\n", "--config c.yaml, line 3: only NAME: VALUE can be read here"),
        ("a: 1\n<<: *base\n", "--config c.yaml, line 2"),
        ("nnodes: 0x2\n", "the value of --nnodes cannot be read here"),
        ("data-parallel-size:\n  2\n", "the value of --data-parallel-size cannot be read here"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_cannot_be_read_is_said_and_nothing_invented(
    tmp_path: Path, text: str | None, why: str, rank: int
) -> None:
    found = tried(tmp_path, VLLM, text, rank)
    assert found.plan is None
    assert why in found.notices[0]
    with pytest.raises(ConfigurationError, match="UNIT_FRAMEWORK=vllm: no part of COMMAND"):
        tried(tmp_path, VLLM, text, rank, "vllm")


def test_a_port_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    plan = planned(tmp_path, VLLM, "port: 1_8001\n")
    assert (plan.health, plan.traffic_port) == (None, None)
    assert "--nnodes" in plan.argv


def test_it_is_looked_for_where_the_shell_has_gone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text("port: 18001")
    known = in_text(tmp_path, f"cd sub && exec {VLLM}")
    assert known.plan is not None
    assert known.plan.traffic_port == 18001
    unknown = in_text(tmp_path, f'cd "$(dirname x)" && exec {VLLM}')
    assert "its directory is unknown here; use an absolute path" in unknown.notices[0]


@pytest.mark.parametrize(
    "step",
    [
        "echo port: 1 >c.yaml",
        "envsubst <template > c.yaml",
        "sed -i s/a/b/ c.yaml",
        "CONFIG=c.yaml; cat >> 'c.yaml' /dev/null",
        "curl -o c.yaml http://h/",
        "cat a | tee c.yaml",
    ],
)
def test_a_file_that_the_text_makes_is_not_read(tmp_path: Path, step: str) -> None:
    """Not the one that an earlier start has left there either."""
    (tmp_path / "c.yaml").write_text("port: 18001")
    found = in_text(tmp_path, f"{step}; {VLLM}")
    assert "its text creates c.yaml itself" in found.notices[0]


@pytest.mark.parametrize("step", ["cat c.yaml >/dev/null", "[ -f c.yaml ] || exit 1", "cp a.yaml b.yaml"])
def test_a_file_that_the_text_only_looks_at_is_read(tmp_path: Path, step: str) -> None:
    (tmp_path / "c.yaml").write_text("port: 18001")
    found = in_text(tmp_path, f"{step}; {VLLM}").plan
    assert found is not None
    assert found.traffic_port == 18001


def in_text(folder: Path, text: str) -> CompletedCommand:
    at = place(0)
    argv, here = ("sh", "-c", text), str(folder)
    return complete_command(
        "auto", argv, offered(at), here, lambda _, command: replace(at, folder=command.folder)
    )


NAMES = st.sampled_from(["port", "host", "nnodes", "a_b"])
VALUES = st.one_of(
    st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False), st.text(max_size=8),
    st.sampled_from(["0x10", "1_0", "010", "yes", "null", "~", "a: b", "a #b", "1:30", "1e3", "*a"]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text("ab"), st.integers(), max_size=2),
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES), st.sampled_from([None, '"', "'"]), st.booleans())
def test_never_another_value_than_yamls(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object], style: str | None, flow: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = yaml.safe_dump(content, default_style=style, default_flow_style=flow, allow_unicode=True)
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    read = yaml.safe_load(text) or {}
    try:
        words = read_config_flags(("--config", "c.yaml"), str(folder))
    except UnreadableError:
        return
    for name, value in read.items():
        flag = Flag(f"--{name}")
        if isinstance(value, bool):
            assert flag.is_set(words) == value or UNKNOWN in words
            continue
        assert flag.is_set(words)
        said = words[words.index(f"--{name}") + 1]
        assert said in (str(value), UNKNOWN)
