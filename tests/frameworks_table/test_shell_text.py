"""A plain engine command at the end of a shell's text, against what real shells make of the text."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.frameworks_table.places import offered, place
from unitagent.errors import ConfigurationError
from unitagent.frameworks.command import is_shell_text
from unitagent.frameworks.completer import CompletedCommand, complete_command
from unitagent.frameworks.interface import LaunchPlan, RankContext

SHELLS = [
    ("sh", "-c"),
    ("bash", "-euo", "pipefail", "-c"),
    ("bash", "--login", "-c"),
    ("env", "A=1", "bash", "-c", "-e"),
]
PLAIN = {
    "exec": "exec vllm serve m --port 18000",
    "a line's end": "vllm serve m --port 18000\n",
    "assignments": "PORT=18000; export A=b\nvllm serve m --port $PORT",
    "a default": "vllm serve m --port ${NOBODY_SETS_THIS:-18000}",
    "a folder": "cd / && exec vllm serve 'm' --port=18000",
    "what a file sets": '. /dev/null && HF_HOME=/x exec vllm serve "$MODEL" --port 18000',
    "a way out": "cd / || exit 1; vllm serve m --port 18000",
    "lines that go on": "vllm serve m \\\n  --port \\\n  18000 # the usual one",
    "a reader": "vllm serve m --port 18000 2>&1 | cat",
    "words in a variable": "ARGS='m --port 18000'; vllm serve $ARGS",
    "a helper": "sleep 0 & vllm serve m --port 18000",
    "a shell in a shell": "bash -c 'exec vllm serve m --port 18000'",
    "a condition before": "if [ -d /nowhere ]; then exit 1; fi\nexec vllm serve m --port 18000",
    "a value only known there": "vllm serve m --port 18000 --seed $(echo 1)",
    "parentheses before": "(\ncd / && true\n)\nexec vllm serve m --port 18000",
    "a function before": "f()\n{\n:\n}\nf\nexec vllm serve m --port 18000",
    "a redirection in the middle": "vllm serve m </dev/null --port 18000",
}  # fmt: skip
NOT_PLAIN = {
    "a condition": "[ -d / ] && vllm serve m",
    "another case": "true || vllm serve m",
    "by rank": 'if [ "$RANK_ID" = 0 ]; then sleep 0; fi; vllm serve m',
    "a loop": "while true; do vllm serve m; done",
    "the background": "vllm serve m & wait",
    "two": "vllm serve a; vllm serve b",
    "an engine that is not the last": "vllm serve a; echo ended",
    "parentheses": "(vllm serve m)",
    "parentheses on lines": "(\ncd /\nvllm serve m\n)\n",
    "parentheses behind a step": "(cd /; vllm serve m)\n\n",
    "a case": "case x in\nx)\nvllm serve m\n;;\nesac\n",
    "words of nobody": "ARGS=$(cat /etc/hostname); vllm serve m $ARGS",
    "a number of nobody": "N=$(echo 2); vllm serve m -dp $N",
    "a here-document": "cat <<END\nvllm serve a\nEND\nvllm serve m",
    "no end": "vllm serve 'm",
    "nothing": "",
    "another program": "./start.sh",
    "somebody else may go on": "exec ./start.sh; vllm serve m",
}
STUB = '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >"$SEEN"\n'


def completed(argv: tuple[str, ...], at: RankContext, name: str = "auto", **env: str) -> CompletedCommand:
    return complete_command(name, argv, offered(at) | env, "/", lambda *_: at)


def made(argv: tuple[str, ...], at: RankContext, name: str = "auto", **env: str) -> LaunchPlan:
    plan = completed(argv, at, name, **env).plan
    assert plan is not None
    return plan


class Engine:
    """A program called ``vllm`` that tells its words."""

    def __init__(self, folder: Path) -> None:
        self.seen = folder / "seen"
        program = folder / "vllm"
        program.write_text(STUB)
        program.chmod(0o755)
        (folder / ".profile").write_text(f"PATH={folder}:$PATH\n")  # for login shells, which set a PATH
        self.env = {"HOME": str(folder)} | {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "SEEN": str(self.seen),
            "RANK_ID": "1",
            "MODEL": "a b",
        }

    def words(self, argv: tuple[str, ...]) -> list[str]:
        self.seen.unlink(missing_ok=True)
        subprocess.run(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return self.seen.read_text().split("\0")[:-1]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("bin"))


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_its_port_is_known_and_the_flags_go_into_the_text(
    engine: Engine, shell: tuple[str, ...], text: str
) -> None:
    argv = (*shell, text)
    for rank in (0, 1):
        plan = made(argv, place(rank), **engine.env)
        before, after = engine.words(argv), engine.words(plan.argv)
        assert after[: len(before)] == before
        assert after[len(before) : len(before) + 4] == ["--nnodes", "2", "--node-rank", str(rank)]
        assert (plan.traffic_port, plan.health) == (
            (18000, "http://127.0.0.1:18000/health") if rank == 0 else (None, None)
        )
        assert made(plan.argv, place(rank), **engine.env).argv == plan.argv


@pytest.mark.parametrize("text", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_alone_and_that_is_said(text: str) -> None:
    for rank in (0, 1):
        found = completed(("sh", "-c", text), place(rank))
        assert found.plan is None
        (said,) = found.notices
        assert "COMMAND is left unchanged: " in said
        with pytest.raises(
            ConfigurationError, match="UNIT_FRAMEWORK=vllm: no part of COMMAND can be completed"
        ):
            completed(("sh", "-c", text), place(rank), "vllm")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('A=(m --port 8001); exec vllm serve "${A[@]}"', '"${A[@]}"'),
        ("A+=(--port 8001)\nvllm serve m ${A[*]}", "${A[*]}"),
        ('set -- m --port 8001; exec vllm serve "$@"', '"$@"'),
        ("vllm serve m $(options --token hush)", "$(…)"),
    ],
)
def test_who_hides_options_is_told_which_word_and_what_to_do(text: str, word: str) -> None:
    said = f"{word} may be any number of options, which are unknown here: write them out instead"
    (notice,) = completed(("bash", "-c", text), place(0)).notices
    assert said in notice
    assert (
        "put the engine's command last in the text, unconditionally, or pass the rank to the engine" in notice
    )
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        completed(("bash", "-c", text), place(0), "vllm")


def test_a_port_of_nobody_is_not_guessed() -> None:
    for rank in (0, 1):
        plan = made(("sh", "-c", ". /dev/null; vllm serve m --port $PORT"), place(rank))
        assert f"--port $PORT --nnodes 2 --node-rank {rank}" in plan.argv[2]
        assert (plan.health, plan.traffic_port, plan.metrics_url) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (". /x; vllm serve m --port $PORT", "$PORT"),
        (". /x; vllm serve m --port=$PORT", "$PORT"),
        ('vllm serve m --port "$(cat /port)"', '"$(…)"'),
        (". /x; sglang serve --model-path m --port ${PORT:-30000}", "${PORT:-30000}"),
        (". /x; lmdeploy serve api_server m --server-port $PORT", "$PORT"),
        (". /x; trtllm-serve m --tp_size 2 --port $PORT", "$PORT"),
        ("sh -c 'vllm serve m --port $((8000 + $(cat /n)))'", "$((8000 + $(…)"),
        ("vllm serve m --port 18000", ""),
        ("vllm serve m --uds /x", ""),
    ],
)
def test_a_port_that_only_the_shell_knows_is_told_as_it_is_written(text: str, written: str) -> None:
    said = f"the port is {written}, which only the shell can expand" if written else ""
    assert completed(("sh", "-c", text), place(0)).hidden == said


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("vllm serve m --port $PORT", "a variable"),
        ("vllm serve m --port $PORT --tp 2", "a variable"),
        ("vllm serve m --port=$PORT", "$PORT"),
        ('vllm serve m --port "$PORT"', '"$PORT"'),
    ],
)
def test_a_port_whose_variable_is_unset_is_told(text: str, written: str) -> None:
    hidden = completed(("sh", "-c", text), place(0)).hidden
    assert hidden == f"the port is {written}, which is unset or empty here"


def test_the_words_behind_the_text(engine: Engine) -> None:
    argv = ("sh", "-c", 'exec vllm serve "$@" --seed $1', "_", "a b", "--port", "18000")
    plan = made(argv, place(0))
    assert plan.traffic_port == 18000
    assert engine.words(plan.argv)[:4] == ["serve", "a b", "--port", "18000"]


def test_a_cluster_of_ray_is_made_inside_the_text() -> None:
    argv = ("sh", "-c", "cd / && exec vllm serve m --distributed-executor-backend ray 2>/dev/null")
    for rank, words in ((0, "ray start --head"), (1, "exec ray start --address=")):
        text = made(argv, place(rank)).argv[2]
        assert text.startswith("cd / && exec /bin/sh -c '")
        assert words in text
        assert text.endswith(" 2>/dev/null")
        subprocess.run(("sh", "-n", "-c", text), check=True)


def test_launchers_take_their_flags_in_front() -> None:
    text = "cd / && exec torchrun --nproc-per-node $GPUS train.py --nnodes 1"
    planned = made(("bash", "-lc", text), place(1), GPUS="8").argv[2]
    assert planned.startswith("cd / && exec torchrun --nnodes 2 --node-rank 1 ")
    assert planned.endswith(" --nproc-per-node $GPUS train.py --nnodes 1")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("vllm bench serve", "vllm"),
        ("python a.py", "deepspeed"),
        ("lmdeploy chat m", "lmdeploy"),
        ("sglang generate", "sglang"),
    ],
)
def test_a_framework_that_could_complete_nothing_is_an_error_that_says_how_to_write_it(
    command: str, name: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"UNIT_FRAMEWORK={name}: no part of COMMAND .* write `.*{name}"
    ):
        completed(tuple(command.split()), place(1), name)


def test_a_wrapper_of_the_users_own_is_taken_at_its_word() -> None:
    assert "--headless" in made(("./start.sh", "m"), place(1), "vllm").argv


def test_torchrun_inside_a_script_finds_its_place_in_the_variables() -> None:
    found = completed(("bash", "-c", "for i in 1; do torchrun a.py; done"), place(1), "torchrun")
    assert (found.plan, len(found.notices)) == (None, 1)


@pytest.mark.parametrize(
    "words",
    ["bash", "bash -c", "bash -e x.sh -c y", "bash --rcfile -c", "python a.py bash -c x", "bash -o pipefail"],
)
def test_no_text(words: str) -> None:
    assert not is_shell_text(tuple(words.split()))


PIECES = st.sampled_from([
    *("a", "$A", "${B}", "'q  $A'"),
    *('"d $A `echo x`"', "\\ ", "\\$", "$(echo y z)", "${C:-d}", "=", "--x", "~", "{1,2}"),
    *("*", '""', "$9", "$?", "\\\n", '"\\"\\a"', "'#'", "a#b", "${A#x}", '"$@"', "$", '"$"'),
])  # fmt: skip
TEXTS = st.lists(st.lists(PIECES, min_size=1, max_size=3).map("".join), max_size=5).map(" ".join)


@settings(max_examples=100)
@given(TEXTS, st.sampled_from(["sh", "bash"]))
def test_whatever_words_it_has_they_stay_as_they_are(engine: Engine, words: str, shell: str) -> None:
    """In dash and bash, whatever the words say; with dollars and quotes that mean something or nothing."""
    assume("$$" not in words.replace("\\\n", ""))  # the number of the process
    argv = (shell, "-c", f"vllm serve m {words}", "_", "one", "two  words")
    env = engine.env | {"A": "v w", "B": "*"}
    engine.env, former = env, engine.env
    try:
        found = completed(argv, place(1), **env)
        if found.plan is None:
            return
        before, after = engine.words(argv), engine.words(found.plan.argv)
    except subprocess.CalledProcessError:
        with pytest.raises(subprocess.CalledProcessError):  # no text for this shell, and none of ours
            engine.words(argv)
        return
    finally:
        engine.env = former
    assert after[: len(before)] == before
    assert after[len(before) :][:2] == ["--nnodes", "2"]
