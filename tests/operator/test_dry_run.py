"""``unitagent env --command``: what a rank would run, without running it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operator.command import run
from unitagent.operator.dry_run import DryRun, format_dry_run

HERE = {
    "COMM_IFNAME": "lo",
    "RANK_IP": "127.0.0.2",
    "UNIT_SIZE": "2",
    "RANK_ID": "1",
    "UNIT_ID": "u",
    "MASTER_ADDRESS": "127.0.0.1",
}
VLLM = ("--", "vllm", "serve", "m", "--tensor-parallel-size", "2")


def test_a_rank_s_command_and_environment_with_their_origins() -> None:
    environ = HERE | {"UNIT_FRAMEWORK": "auto"}
    done = run("env", "--command", "--format", "json", *VLLM, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["rank"] == 1
    assert seen["command"] == [
        "vllm", "serve", "m", "--tensor-parallel-size", "2", "--nnodes", "2", "--node-rank", "1",
        "--master-addr", "127.0.0.1", "--master-port", "29500", "--headless",
    ]  # fmt: skip
    assert seen["flags"].keys() == {"--nnodes", "--node-rank", "--master-addr", "--master-port", "--headless"}
    assert seen["environment"]["VLLM_HOST_IP"]["value"] == "127.0.0.2"
    assert "stands in" in seen["environment"]["MASTER_PORT"]["source"]
    assert seen["environment"].keys().isdisjoint(HERE)  # only what is added or changed


def test_rank_as_usual_overrules_the_environment() -> None:
    environ = HERE | {"UNIT_FRAMEWORK": "vllm"}
    done = run("env", "--command", "--rank", "0", "--format=json", *VLLM, environ=environ)
    seen = json.loads(done.stdout)
    assert seen["environment"]["RANK_ID"] == {"value": "0", "source": "flag --rank"}
    assert "--headless" not in seen["command"]
    assert seen["environment"]["MASTER_ADDRESS"] == {
        "value": "127.0.0.2",
        "source": "rank 0: our own address",
    }


def test_the_keeper_is_shown_beside_the_command() -> None:
    environ = HERE | {"UNIT_GUARD": "true", "UNIT_FRAMEWORK": "vllm", "UNIT_KEEPER": "auto"}
    seen = json.loads(run("env", "--command", "--format", "json", *VLLM, environ=environ).stdout)
    assert seen["keeper"][:5] == ["vllm", "preload", "--model", "m", "--tensor-parallel-size"]
    assert seen["command"][-2:] == ["--load-format", "ipc_cache"]
    by_hand = {
        "UNIT_FRAMEWORK": "none",
        "UNIT_KEEPER": "keep '{MASTER_ENDPOINT}' a\\ b",
        "UNIT_KEEPER_READY": "tcp:{MASTER_PORT}",
    }
    words = ("--", "serve", "{UNIT_KEEPER_PORT}")
    seen = json.loads(run("env", "--command", "--format", "json", *words, environ=environ | by_hand).stdout)
    assert (seen["keeper"], seen["command"]) == (["keep", "127.0.0.1:29400", "a b"], ["serve", "29400"])
    text = run("env", "--command", *words, environ=environ | by_hand).stdout
    assert "# the keeper, which starts before it: keep 127.0.0.1:29400 'a b'" in text


CHECKS = {
    "startup_check": {"tcp_socket": {"port": 7}},
    "readiness_check": {"exec": {"command": ["./ready", "--token", "hush"]}, "period_seconds": 2},
    "liveness_check": {"http_get": {"path": "/live", "port": 8}},
}
PACE = "every 5 s (every 1 s until it is healthy)"
ASKED_IN_TURN = (
    "a TCP connect to 127.0.0.1:7 every 1 s, then the command of containers[0].readiness_check every 2 s, "
    f"then GET http://127.0.0.1:8/live {PACE}"
)


@pytest.mark.parametrize(
    ("given", "asked", "source"),
    [
        (
            {"UNIT_FRAMEWORK": "auto"},
            f"GET http://127.0.0.1:8000/health {PACE}",
            "UNIT_FRAMEWORK=auto",
        ),
        (
            {"UNIT_TRAFFIC_PORT": "9000"},
            f"a TCP connect to port 9000 {PACE}, since no health URL is known",
            "UNIT_TRAFFIC_PORT (environment)",
        ),
        (
            {"UNIT_HEALTH_URL": "http://u:hush@h/a?token=hush", "UNIT_HEALTH_INTERVAL_SECONDS": "0.5"},
            "GET http://***@h/a?token=*** every 0.5 s",
            "UNIT_HEALTH_URL (environment)",
        ),
        (
            {"UNIT_CONFIG": "service.json"},
            ASKED_IN_TURN,
            "service file service.json",
        ),
        ({}, None, None),
    ],
)
def test_what_rank_0_is_asked_is_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    asked: str | None,
    source: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("service.json").write_text(json.dumps({"containers": [{"script": "x"} | CHECKS]}))
    environ = HERE | {"RANK_ID": "0"} | given
    done = run("env", "--command", "--format", "json", *VLLM, environ=environ)
    assert json.loads(done.stdout)["health"] == (asked and {"asked": asked, "source": source})
    text = run("env", "--command", *VLLM, environ=environ).stdout
    assert (f"# health: {asked}" in text) == bool(asked)
    seen = json.loads(run("env", "--format", "json", *VLLM, environ=environ).stdout)["UNIT_HEALTH_URL"]
    if asked and seen["value"] is None:
        assert seen["source"] == f"not set; check at rank 0: {asked} ({source})"
    others = run("env", "--command", "--format", "json", "--rank", "1", *VLLM, environ=environ)
    assert json.loads(others.stdout)["health"] is None
    assert "hush" not in done.stdout + text + others.stdout


def test_the_port_that_a_framework_knows_is_shown_without_being_set() -> None:
    environ = HERE | {"RANK_ID": "0", "UNIT_FRAMEWORK": "auto"}
    seen = json.loads(run("env", "--format", "json", *VLLM, environ=environ).stdout)
    assert seen["UNIT_TRAFFIC_PORT"] == {"value": "8000", "source": "found: service file or framework"}
    odd = run("env", *VLLM, "--nnodes", "3", environ=environ)  # a matter of run, and of env --command
    assert (odd.returncode, odd.stderr) == (0, "")


def test_a_port_that_only_the_shell_knows_is_why_health_is_not_known() -> None:
    environ = HERE | {"RANK_ID": "0", "UNIT_FRAMEWORK": "auto"}
    words = ("env", "--command", "--", "sh", "-c", ". /x; exec vllm serve m --port $PORT")
    told = run(*words, environ=environ).stderr
    assert (
        "the health URL and port of the workload are unknown, because the port is $PORT, which only the "
        "shell can expand: ready" in told
    )
    assert "set UNIT_HEALTH_URL (http://127.0.0.1:PORT/health) and UNIT_TRAFFIC_PORT" in told
    assert "not known" not in run(*words, environ=environ | {"UNIT_TRAFFIC_PORT": "8001"}).stderr


def test_a_port_in_a_variable_that_nobody_replaces_is_told_with_what_to_do() -> None:
    environ = HERE | {"RANK_ID": "0", "UNIT_FRAMEWORK": "auto"}
    told = run("env", "--command", "--", "vllm", "serve", "m", "--port", "$PORT", environ=environ).stderr
    assert "COMMAND has $PORT, which is not expanded without a shell: use the number, or run" in told
    assert "because the port is $PORT, which no shell expands here: ready" in told
    words = ("env", "--command", "--", "sh", "-c", "exec vllm serve m --port $PORT")
    told = run(*words, environ=environ).stderr
    assert "because the port is a variable, which is unset or empty here: ready" in told
    assert "not expanded" not in told
    assert run(*words, environ=environ | {"PORT": "8001"}).stderr == ""


def test_on_a_desk_a_name_stands_in_for_the_address_of_rank_0() -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "UNIT_FRAMEWORK": "auto",
        "COMM_IFNAME": "lo",
        "RANK_IP": "127.0.0.2",
    }
    words = ("--rank", "1", "--size", "2", "--", "accelerate", "launch", "--num_processes", "4", "train.py")
    done = run("env", "--command", *words, environ=environ)
    assert done.returncode == 0, done.stderr
    assert "MASTER_ADDRESS is not set; rank-0 stands in for it" in done.stderr
    assert "--main_process_ip rank-0" in done.stdout


def test_a_shell_reads_the_text(tmp_path: Path) -> None:
    environ = HERE | {
        "MASTER_ADDRESS": "",
        "UNIT_REDIS_URL": "redis://:hush@127.0.0.1",
        "VLLM_PORT": "tcp://10.0.0.1:80",
    }
    done = run("env", "--command", "--", "sh", "-c", "echo $UNIT_RANK_IPS '{RANK_ID}'", environ=environ)
    assert "hush" not in done.stdout
    assert "unset UNIT_REDIS_URL" in done.stdout
    script = tmp_path / "script"
    script.write_text(done.stdout + '\necho "${VLLM_PORT-none}"')
    said = subprocess.run(["/bin/sh", script], env=environ, capture_output=True, text=True, check=True)
    assert said.stdout == "127.0.0.2,127.0.0.2 1\nnone\n"


def test_nothing_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    assert run("env", "--command", "--", "touch", str(trace), environ=HERE).returncode == 0
    assert not trace.exists()


def test_another_machine_s_address_is_used_as_given() -> None:
    environ = {name: text for name, text in HERE.items() if name != "COMM_IFNAME"} | {"RANK_IP": "192.0.2.77"}
    done = run("env", "--command", "--format", "json", "--", "true", environ=environ)
    assert json.loads(done.stdout)["environment"]["VLLM_HOST_IP"]["value"] == "192.0.2.77"
    assert "used anyway" in done.stderr


def test_the_service_file_s_variables_are_said_to_be_its_own(tmp_path: Path) -> None:
    file = tmp_path / "service.json"
    env = [{"name": "HF_TOKEN", "value": "hush"}, {"name": "A", "value": "b"}]
    file.write_text(json.dumps({"unit": {"size": 2}, "containers": [{"script": "serve it", "env": env}]}))
    done = run("env", "--command", "--format", "json", environ=HERE | {"UNIT_CONFIG": str(file)})
    seen = json.loads(done.stdout)
    assert seen["command"] == ["/bin/sh", "-c", "serve it"]
    assert seen["environment"]["A"] == {"value": "b", "source": f"service file {file}: containers[0].env"}
    assert seen["environment"]["HF_TOKEN"]["value"] == "***"


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (("--command",), HERE, "COMMAND missing"),
        (("--command", "--", "true"), HERE | {"RANK_ID": "auto", "UNIT_REDIS_URL": "redis://r"}, "--rank N"),
        (("--command", *VLLM, "--nnodes", "3"), HERE | {"UNIT_FRAMEWORK": "vllm"}, "--nnodes"),
        (("--command", "--", "true"), HERE | {"RANK_IP": "", "COMM_IFNAME": "nic9"}, "COMM_IFNAME='nic9'"),
    ],
)
def test_what_a_dry_run_cannot_know(words: tuple[str, ...], environ: dict[str, str], said: str) -> None:
    done = run("env", *words, environ=environ)
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()[-1]
    assert told.startswith("unitagent: error: ")
    assert said in told


def test_values_are_quoted_for_the_shell() -> None:
    dry_run = DryRun(0, ["a b"], {}, {"X": ("1 2", "us")}, {})
    assert format_dry_run(dry_run, "shell") == "export X='1 2'  # us\n'a b'"


def test_what_is_run_before_the_command_is_explained_too() -> None:
    environ = HERE | {"UNIT_FRAMEWORK": "ray"}
    done = run("env", "--command", "--format=json", "--", "python", "a.py", environ=environ)
    seen = json.loads(done.stdout)
    assert seen["flags"].keys() == {"ray start", "RAY_ADDRESS"}
    assert "drains as a whole" in seen["environment"]["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]["source"]
    mpi = run("env", "--command", "--format=json", "--rank=0", "--", "trtllm-serve", "m", "--tp_size", "2",
              environ=HERE | {"UNIT_FRAMEWORK": "auto"})  # fmt: skip
    assert json.loads(mpi.stdout)["flags"].keys() == {"mpirun", "--host"}


def test_rdma_that_cannot_be_had_is_said() -> None:
    done = run("env", "--command", "--", "true", environ=HERE | {"UNIT_RDMA": "auto"})
    assert "no RDMA device of interface lo can be used: none belongs to it" in done.stderr


@pytest.mark.parametrize("word", ["$RANK_ID", "--node-rank=${RANK_ID}", "$(RANK_ID)/$(UNIT_SIZE)"])
def test_a_variable_that_no_shell_reads_is_told(word: str) -> None:
    done = run("env", "--command", "--", "true", word, environ=HERE)
    assert "which is not expanded without a shell: use {RANK_ID}" in done.stderr
    assert word in done.stdout
    for command in (("sh", "-c", f"true {word}"), ("true", "{RANK_ID}", "$RANK_IDS", "$HOME")):
        assert "not expanded" not in run("env", "--command", "--", *command, environ=HERE).stderr


@pytest.mark.parametrize(
    ("variables", "command", "start"),
    [
        ({}, ("python3", "x.py"), ("cold", "UNIT_WARM=off")),
        (
            {"UNIT_WARM": "auto", "UNIT_WARM_MODULES": "json,decimal"},
            (sys.executable, "-u", "x.py"),
            ("warm", "UNIT_WARM=auto: from a process that has imported json, decimal"),
        ),
        (
            {"UNIT_WARM": "first"},
            (sys.executable, "x.py"),
            ("cold", "UNIT_WARM=first: no modules are known that it imports: set UNIT_WARM_MODULES"),
        ),
        (
            {"UNIT_WARM": "auto", "UNIT_WARM_MODULES": "json"},
            ("env", "A=1", "python3", "x.py"),
            ("cold", "UNIT_WARM=auto: COMMAND runs env, and no Python"),
        ),
    ],
)
def test_how_a_restart_would_be_started(
    variables: dict[str, str], command: tuple[str, ...], start: tuple[str, str]
) -> None:
    done = run("env", "--command", "--format", "json", "--", *command, environ=HERE | variables)
    assert tuple(json.loads(done.stdout)["start"].values()) == start
