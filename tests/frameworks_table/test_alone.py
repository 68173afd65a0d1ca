"""An engine that nobody completes, in a Unit of several: it is told unless somebody has thought of ranks."""

from __future__ import annotations

import pytest

from unitagent import engine_commands
from unitagent.engine_commands import explain_missing_ranks
from unitagent.frameworks.completer import choose_framework

KNOWN = (*(start for starts in engine_commands.START_WORDS.values() for start in starts),)


@pytest.mark.parametrize("start", KNOWN, ids=" ".join)
def test_whatever_a_framework_recognizes_is_told(start: engine_commands.StartWords) -> None:
    command = ("python3", *start, "m") if start[0] == "-m" else (*start, "m")
    assert choose_framework("auto", command) is not None
    assert explain_missing_ranks(command)


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve m --tp 8",
        "python3 -m sglang.launch_server --model-path m",
        "python3 -m sglang.cli.main serve --model-path m",
        "python3 -m lmdeploy serve api_server m",
        "/opt/bin/trtllm-serve m --tp_size 2",
        "accelerate launch train.py",
        "accelerate-launch train.py",
        "bash -c 'source env.sh; exec vllm serve m'",
    ],
)
def test_an_engine_without_a_word_on_ranks_is_told(command: str) -> None:
    assert "UNIT_FRAMEWORK=auto" in explain_missing_ranks(command.split())[0]


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve m --nnodes 2 --node-rank {RANK_ID}",
        "python3 -m sglang.launch_server --dist-init-addr {MASTER_ENDPOINT}",
        "bash -c 'if [ $LWS_WORKER_INDEX = 0 ]; then vllm serve m; fi'",
        "torchrun train.py",
        "vllm bench serve",
        "lmdeploy serve gradio m",
        "sh serve.sh",
    ],
)
def test_who_has_thought_of_ranks_is_told_nothing(command: str) -> None:
    assert not explain_missing_ranks(command.split())
