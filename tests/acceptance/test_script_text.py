"""``containers[0].script`` is a shell's text, for the agent and for what ``unitagent render`` makes of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.acceptance.local import clean, unitagent
from tests.ports import free_port
from tests.waiting import DEADLINE
from unitagent.operator.render.render_cli import ENGINES, render_manifest

SCRIPTS = {
    "a folder, then a command": ("cd /tmp && pwd", "/tmp\n"),  # noqa: S108 (no file)
    "lines, with a comment and a semicolon": ("# first\nA=1; B=2\necho $A$B\n", "12\n"),
    "a variable and a pipe": ("echo rank $RANK_ID of $UNIT_SIZE | tr a-z A-Z", "RANK 0 OF 1\n"),
    "quotes over lines": ("printf '%s\\n' 'a  b\nc' \"$RANK_ID\"", "a  b\nc\n0\n"),
}
texts = pytest.mark.parametrize(("script", "output"), SCRIPTS.values(), ids=SCRIPTS)


def service(script: str) -> str:
    return json.dumps({"unit": {"size": 1}, "containers": [{"image": "x", "port": 8000, "script": script}]})


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {"RANK_ID": "0", "COMM_IFNAME": "lo", "RANK_IP": "127.0.0.1", "UNIT_MODE": "job"}
    given |= {"UNIT_HTTP_ADDRESS": f"127.0.0.1:{free_port()}", "UNIT_ID": folder.name}
    return unitagent("run", *command, **given, **variables)


@texts
def test_the_agent_runs_it(tmp_path: Path, script: str, output: str) -> None:
    (tmp_path / "service.json").write_text(service(script))
    done = run(tmp_path, UNIT_CONFIG=str(tmp_path / "service.json"))
    assert (done.returncode, done.stdout) == (0, output), done.stderr


@texts
@pytest.mark.parametrize("engine", ENGINES)
def test_so_does_what_a_manifest_starts(tmp_path: Path, engine: str, script: str, output: str) -> None:
    text, _ = render_manifest(engine, service(script), "service.json")
    document = next(yaml.safe_load_all(text))
    if engine == "lws":
        pod = document["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]
        words = pod["containers"][0]["args"]
    else:
        words = next(one for name, one in document["services"].items() if name != "redis")["command"]
    command = [word.replace("$$", "$") for word in words]  # as Compose, Swarm and the kubelet do
    done = subprocess.run(
        command, env=clean(RANK_ID="0", UNIT_SIZE="1"), capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, output), done.stderr
