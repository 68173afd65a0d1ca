"""What a shell's text does to its variables, against what real shells make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frameworks_table.places import place
from tests.frameworks_table.test_shell_text import Engine, completed, made

ELSEWHERE = {  # a port that the text changes in a way of its own
    "a default that is set": ': "${PORT:=18000}"; vllm serve m --port $PORT',
    "a default of nothing": ": ${OTHER:=18000}; vllm serve m --port $OTHER",
    "a default by a command": ": ${OTHER:=$(echo 18000)}; vllm serve m --port $OTHER",
    "arithmetic": ": $((PORT = 18000)); vllm serve m --port $PORT",
    "a condition that fails": "[ -d /nowhere ] && PORT=18000; vllm serve m --port $PORT",
    "a condition that holds": "[ -d / ] && PORT=18000; vllm serve m --port $PORT",
    "a condition that fails, of another": "[ -d /nowhere ] && A=--x; vllm serve m --port 18000 $A",
    "unset": "unset PORT; vllm serve m --port ${PORT:-18000}",
    "a loop": "for PORT in 18000; do :; done; vllm serve m --port $PORT",
    "lines of a file": "read PORT </dev/null; vllm serve m --port ${PORT:-18000}",
    "variables of a file": "export $(echo OTHER=18000); vllm serve m --port $OTHER",
    "variables of a file, again": "export $(echo PORT=18000) A=b; vllm serve m --port $PORT",
    "a file": '. "$FILE"; vllm serve m --port $PORT',
    "any text": "eval PORT=18000; vllm serve m --port $PORT",
    "one text in two ways": 'vllm serve ~ "~" --port 18000',
    "options": "getopts p: PORT -p; vllm serve m --port ${PORT:+18000}",
    "arguments": 'set -e m --port 18000; vllm serve "$@"',
    "nothing among the words": "vllm serve m $NOTHING --port $PORT $NOTHING --seed $NOTHING 1",
}
OF_BASH = {
    "none of the arguments": 'set -eu -o pipefail; vllm serve m --port 18000 "$@"',
    "let": "let PORT=18000+1; vllm serve m --port $PORT",
    "let another": "let OTHER=18000+1; vllm serve m --port $OTHER",
    "printf -v": "printf -v OTHER %s 18000; vllm serve m --port $OTHER",
    "double parentheses": "((PORT = 18000)); vllm serve m --port $PORT",
    "more": "((PORT++)); vllm serve m --port $PORT",
    "a list of words": "readarray -t A < <(printf '%s\\n' m --port 18000); vllm serve \"${A[@]}\"",
    "an array": "mapfile -t PORT < <(echo 18000); vllm serve m --port $PORT",
}
KNOWN = {
    "a default": ': "${OTHER:=18000}"; vllm serve m --port "$OTHER"',
    "a default that is not needed": ": ${PORT:=1}; vllm serve m --port $((1)) --port $PORT",
    "what the last one needs": "cd / && export A=b && OTHER=18000 && vllm serve m --port $OTHER",
    "what cannot fail": "export A=b && OTHER=18000; vllm serve m --port $OTHER",
    "what stands behind a file": '. "$FILE"; PORT=18000; vllm serve m --port $PORT',
    "a kit": ". /nowhere/conda.sh 2>/dev/null; vllm serve m --port $PORT",
    "what is only said": "printf 'PORT=%s' $PORT; vllm serve m --port $PORT",
}  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "env").write_text("PORT=18000\n")
    made = Engine(folder)
    made.env |= {"PORT": "9000", "FILE": str(folder / "env")}
    return made


@pytest.mark.parametrize("text", [*ELSEWHERE.values(), *OF_BASH.values()], ids=[*ELSEWHERE, *OF_BASH])
def test_a_port_is_the_engines_or_not_told(engine: Engine, text: str) -> None:
    for shell in ("sh", "bash") if text in ELSEWHERE.values() else ("bash",):
        argv = (shell, "-c", text)
        before = engine.words(argv)
        found = completed(argv, place(0), **engine.env).plan
        if found is None:
            continue
        assert found.traffic_port in (None, int(before[before.index("--port") + 1]))
        assert engine.words(found.argv)[: len(before)] == before


@pytest.mark.parametrize("text", KNOWN.values(), ids=KNOWN)
def test_a_port_that_can_be_told(engine: Engine, text: str) -> None:
    before = engine.words(("bash", "-c", text))
    assert made(("bash", "-c", text), place(0), **engine.env).traffic_port == int(before[-1])


def test_words_that_say_nothing_stay_where_they_are() -> None:
    plan = made(("sh", "-c", "vllm serve m $A --seed $B 1 --port 18000"), place(0))
    assert plan.argv[2].startswith("vllm serve m $A --seed $B 1 --port 18000 --nnodes 2")


@pytest.mark.parametrize("step", ["pushd sub", "[ -d sub ] && cd sub"])
def test_a_file_of_flags_is_not_looked_for_in_another_folder(step: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("port: 1")
    found = completed(("bash", "-c", f"{step}; vllm serve m --config c.yaml"), place(0))
    assert "its directory is unknown here" in found.notices[0]
