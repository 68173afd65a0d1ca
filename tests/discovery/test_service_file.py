"""Service files as Alibaba's pages write them, and as nobody should."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitagent.discovery.service_file import ServiceFile, parse_service_file
from unitagent.errors import ConfigurationError

FULL: dict[str, Any] = {
    "metadata": {"name": "deepseek", "instance": 2, "rpc": {"enable_sigterm": True}},
    "unit": {"size": 2, "guard": True},
    "containers": [
        {
            "image": "vllm",
            "port": 8000,
            "script": "bash -c 'exec vllm serve /model --port 8000'",
            "env": [{"name": "HF_HOME", "value": "/cache"}, {"name": "UNIT_STRICT", "value": "true"}],
            "startup_check": {
                "http_get": {"path": "/health", "port": 8000},
                "initial_delay_seconds": 600,
                "period_seconds": 30,
                "failure_threshold": 120,
            },
            "health_check": {
                "http_get": {"path": "/health", "scheme": "HTTP"},
                "initial_delay_seconds": 3600,
                "period_seconds": 20,
                "timeout_seconds": 5,
                "success_threshold": 1,
                "failure_threshold": 4,
            },
            "readiness_check": {"tcp_socket": {"port": 9000}},
            "liveness_check": {"exec": {"command": ["test", "-e", "/alive"]}, "period_seconds": 7},
        }
    ],
    "eas.termination_grace_period": 30,
}


def read(document: object) -> ServiceFile:
    return parse_service_file(json.dumps(document), "/s.json", {"UNIT_STRICT", "UNIT_SIZE"})


def stated(document: object) -> dict[str, str]:
    return {name: said.text for name, said in read(document).values.items()}


def test_a_full_file() -> None:
    file = read(FULL)
    assert {name: said.text for name, said in file.values.items()} == {
        "UNIT_SERVICE": "deepseek",
        "UNIT_SIZE": "2",
        "UNIT_GUARD": "true",
        "UNIT_TRAFFIC_PORT": "8000",
        "UNIT_STOP_GRACE_SECONDS": "25",
        "UNIT_HEALTH_INTERVAL_SECONDS": "7",
        "UNIT_STARTUP_SECONDS": "4200",
        "UNIT_STRICT": "true",
    }
    assert file.command == ("/bin/sh", "-c", "bash -c 'exec vllm serve /model --port 8000'")
    assert file.environment == {"HF_HOME": "/cache"}
    assert file.sigterm is True
    assert file.warnings == ()
    assert file.values["UNIT_SIZE"].path == "unit.size"
    assert file.values["UNIT_HEALTH_INTERVAL_SECONDS"].path == "containers[0].liveness_check"


def test_all_forms_of_checks() -> None:
    checks = read(FULL).checks
    assert checks["startup_check"].url == "http://127.0.0.1:8000/health"
    assert checks["startup_check"].failures == 120
    assert checks["readiness_check"].port == 9000
    assert checks["liveness_check"].command == ("test", "-e", "/alive")
    assert checks["liveness_check"].failures is None


def test_health_check_is_asked_where_there_is_no_liveness_check() -> None:
    container = {key: value for key, value in FULL["containers"][0].items() if key != "liveness_check"}
    told = stated({"containers": [container]})
    assert {name: text for name, text in told.items() if name.startswith("UNIT_HEALTH")} == {
        "UNIT_HEALTH_URL": "http://127.0.0.1:8000/health",
        "UNIT_HEALTH_INTERVAL_SECONDS": "20",
        "UNIT_HEALTH_TIMEOUT_SECONDS": "5",
        "UNIT_HEALTH_FAILURES": "4",
    }


@pytest.mark.parametrize(
    "where",
    [
        {"eas.termination_grace_period": 60},
        {"eas": {"termination_grace_period": 60}},
        {"metadata": {"eas": {"termination_grace_period": 60}}},
        {"metadata": {"eas.termination_grace_period": 60}},
        {"runtime": {"termination_grace_period": 60}},
        {"runtime.termination_grace_period": 60},
    ],
)
def test_every_spelling_of_the_grace_period(where: dict[str, Any]) -> None:
    file = read(where)
    assert file.values["UNIT_STOP_GRACE_SECONDS"].text == "55"
    assert "termination_grace_period" in file.values["UNIT_STOP_GRACE_SECONDS"].path
    assert file.warnings == ()


@pytest.mark.parametrize("key", ["rpc.enable_sigterm", "rpc"])
@pytest.mark.parametrize("inside", [True, False])
def test_every_spelling_of_sigterm(key: str, inside: bool) -> None:
    content = {key: False if "." in key else {"enable_sigterm": False}}
    assert read({"metadata": content} if inside else content).sigterm is False


@pytest.mark.parametrize(
    ("container", "command"),
    [
        ({"script": "vllm serve"}, ("/bin/sh", "-c", "vllm serve")),
        ({"script": "cd /tmp && ls"}, ("/bin/sh", "-c", "cd /tmp && ls")),
        ({"script": "a 'b\nc; $d | e"}, ("/bin/sh", "-c", "a 'b\nc; $d | e")),
        ({"script": "a", "command": "b"}, ("/bin/sh", "-c", "a")),
        ({"script": " \n", "command": "b"}, ("b",)),
        ({"command": "python -m x", "args": ["--a", "b c"]}, ("python", "-m", "x", "--a", "b c")),
        ({"command": ["python", "x y"]}, ("python", "x y")),
        ({}, ()),
    ],
)
def test_the_command_in_every_form(container: dict[str, Any], command: tuple[str, ...]) -> None:
    assert read({"containers": [container]}).command == command


def test_readiness_alone_is_no_health() -> None:
    assert "UNIT_HEALTH_URL" not in stated(
        {"containers": [{"port": 80, "readiness_check": {"http_get": {"path": "/"}}}]}
    )


def test_a_startup_check_limits_the_start() -> None:
    check: dict[str, Any] = {"http_get": {"path": "/"}}
    assert stated({"containers": [{"port": 80, "startup_check": check}]}).keys() == {"UNIT_TRAFFIC_PORT"}
    check |= {"failure_threshold": 3, "initial_delay_seconds": 5}
    assert stated({"containers": [{"port": 80, "startup_check": check}]})["UNIT_STARTUP_SECONDS"] == "35"


def test_what_a_check_would_ignore_is_told() -> None:
    check = {"http_get": {"port": 80, "http_headers": [], "host": "elsewhere"}}
    assert (
        "containers[0].health_check.http_get.host"
        in read({"containers": [{"health_check": check}]}).warnings[0]
    )


def test_unknown_keys_are_one_warning() -> None:
    file = read({"unti": {}, "unit": {"size": 1, "gaurd": True}, "containers": [{"prot": 1}, {}]})
    assert "unti, unit.gaurd, containers[0].prot" in file.warnings[0]
    assert "only the first" in file.warnings[1]
    assert len(file.warnings) == 2


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"metadata": {"instnace": 2}}, "metadata.instnace"),
        ({"metadata": {"rpc": {"enable_sigtrem": True}}}, "metadata.rpc.enable_sigtrem"),
        ({"metadata": {"rpc.enable_sigtrem": True}}, "metadata.rpc.enable_sigtrem"),
        ({"rpc.enable_sigtrem": True}, "rpc.enable_sigtrem"),
        ({"eas": {"termination_grace": 30}}, "eas.termination_grace"),
        ({"eas.termination_grace": 30}, "eas.termination_grace"),
        ({"runtime": {"grace": 30}}, "runtime.grace"),
        ({"cloud": {"networking": {"vpc": "v"}}}, "cloud.networking.vpc"),
        ({"networking": {"gatewya": "g"}}, "networking.gatewya"),
        ({"options.prioritty": 1}, "options.prioritty"),
        ({"rolling_strategy.max_srge": 1}, "rolling_strategy.max_srge"),
        ({"foo.bar": 1}, "foo.bar"),
    ],
)
def test_an_unknown_key_is_listed_wherever_it_stands(document: dict[str, Any], path: str) -> None:
    assert read(document).warnings == (f"UNIT_CONFIG='/s.json': unknown keys ignored: {path}",)


def test_what_eas_is_known_to_take_is_no_unknown_key() -> None:
    file = read({
        "metadata": {
            "name": "a", "instance": 1, "workspace_id": "1", "resource": "r", "quota_id": "q", "cpu": 1,
            "quota_type": "Lingjun", "gpu": 1, "memory": 1, "disk": "30Gi", "shm_size": 1, "rdma": 1,
            "enable_grpc": True, "resource_burstable": True, "rolling_strategy.max_surge": 1,
            "scheduling.spread.policy": "host", "eas.termination_grace_period": 30, "rpc.keepalive": 1,
        },
        "containers": [{"image": "i", "prepare": {"pythonRequirements": []}, "resources": {}}],
        "cloud": {
            "computing": {"instances": [{"type": "t"}]},
            "networking": {"vpc_id": "v", "vswitch_id": "a,b", "security_group_id": "s"},
        },
        "storage": [{"mount_path": "/m", "oss": {"path": "oss://b", "readOnly": True}}],
        "networking": {"gateway": "g", "nlb": []},
        "autoscaler": {"min": 1, "max": 2, "scaleStrategies": []},
        "features": {"eas.aliyun.com/gpu-driver-version": "550"},
        "options": {"priority": 1}, "labels": {"a.b": "c"}, "dockerAuth": "x", "token": "t",
    })  # fmt: skip
    assert file.warnings == ()


def test_what_a_script_takes_the_place_of_is_said() -> None:
    (said,) = read({"containers": [{"script": "a", "command": "b"}]}).warnings
    assert said == "UNIT_CONFIG='/s.json': containers[0].command is ignored beside script"


def test_the_name_at_either_of_its_places() -> None:
    assert read({"name": "old"}).values["UNIT_SERVICE"].path == "name"
    assert read({"name": "old", "metadata": {"name": "new"}}).values["UNIT_SERVICE"].text == "new"


def test_an_empty_check_is_said_to_ask_nothing() -> None:
    file = read({"containers": [{"health_check": {}, "liveness_check": None}]})
    assert file.checks == {}
    assert file.warnings == (
        "UNIT_CONFIG='/s.json': containers[0].health_check is empty, so nothing is asked",
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "a JSON object"),
        ({"metadata": {"instance": "2"}}, "metadata.instance='2': must be an integer from 0 to"),
        ({"metadata": {"instance": -1}}, "metadata.instance=-1"),
        ({"unit": []}, "unit=a list: must be an object"),
        ({"unit": {"size": "2"}}, "unit.size='2': must be an integer from 1 to 1024"),
        ({"unit": {"size": True}}, "unit.size=True"),
        ({"unit": {"size": 0}}, "unit.size=0"),
        ({"unit": {"size": 10**30}}, "unit.size=a very large number"),
        ({"unit": {"guard": "yes"}}, "unit.guard='yes': must be true or false"),
        ({"containers": {}}, "containers=an object: must be a list"),
        ({"containers": [1]}, "containers[0]=1: must be an object"),
        ({"containers": [{"port": 65536}]}, "containers[0].port=65536"),
        ({"containers": [{"command": "bash -c 'x"}]}, "containers[0].command"),
        ({"containers": [{"script": 1}]}, "containers[0].script=1: must be a string"),
        ({"containers": [{"script": "a \0"}]}, "containers[0].script"),
        (
            {"containers": [{"command": ["a", 1]}]},
            "containers[0].command=a list: must be a list of strings",
        ),
        ({"containers": [{"env": [{"value": "x"}]}]}, "containers[0].env[0].name"),
        ({"containers": [{"env": [{"name": "A=B", "value": "x"}]}]}, "containers[0].env[0].name='A=B'"),
        ({"containers": [{"env": [{"name": "A", "value": 1}]}]}, "containers[0].env[0].value=1"),
        ({"containers": [{"health_check": {"period_seconds": 5}}]}, "one of http_get, tcp_socket and exec"),
        ({"containers": [{"health_check": {"http_get": {"path": "/"}}}]}, "health_check.http_get.port"),
        (
            {"containers": [{"port": 1, "health_check": {"http_get": {"scheme": "ftp"}}}]},
            "containers[0].health_check.http_get.scheme='ftp'",
        ),
        ({"containers": [{"health_check": {"exec": {"command": []}}}]}, "health_check.exec.command"),
        (
            {"containers": [{"health_check": {"tcp_socket": {"port": 80}, "period_seconds": -1}}]},
            "health_check.period_seconds=-1",
        ),
        ({"eas": {"termination_grace_period": "30"}}, "eas.termination_grace_period='30'"),
        ({"eas": {"termination_grace_period": float("nan")}}, "eas.termination_grace_period=nan"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(document: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)) as error:
        read(document)
    assert "UNIT_CONFIG='/s.json'" in str(error.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        read({"unit": {"size": "2", "guard": 1}, "containers": [{"port": "80"}]})
    assert len(error.value.problems) == 3


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": ' + "1" * 5000 + "}", "\ufeff", "{}x"])
def test_what_is_no_json_is_told(text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("UNIT_CONFIG='/s.json'")):
        parse_service_file(text, "/s.json")


def test_a_byte_order_mark_is_no_obstacle() -> None:
    assert parse_service_file("\ufeff{}", "/s.json").values == {}


def _members(document: object) -> set[str]:
    if isinstance(document, dict):
        return set(document).union(*map(_members, document.values()))
    return set().union(*map(_members, document)) if isinstance(document, list) else set()


# Keys that the reader looks at, so that the fuzz gets past the first level.
KEYS = st.sampled_from([*_members(FULL), "eas.termination_grace_period", "eas.", ".x"]) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
CONTAINER = st.dictionaries(KEYS, JSON, max_size=6)


@given(st.dictionaries(KEYS, JSON | st.lists(CONTAINER, max_size=2), max_size=6))
def test_any_json_is_a_service_file_or_an_error(document: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        assert all(isinstance(said.text, str) for said in read(document).values.values())


@given(st.text())
def test_any_text_is_a_service_file_or_an_error(text: str) -> None:
    with suppress(ConfigurationError):
        assert parse_service_file(text, "/s.json") is not None
