"""Who wins, what is refused, and what is said about it."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitagent.core.config import Mode, Restart
from unitagent.core.timing import Timing
from unitagent.discovery.kubernetes import RAY_PODS
from unitagent.discovery.platforms import TABLE
from unitagent.errors import ConfigurationError
from unitagent.settings.resolution import resolve_settings
from unitagent.settings.variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitagent.settings import Resolved, Settings

ALONE = {"UNIT_SIZE": "1", "RANK_ID": "0"}
LWS = {"LWS_LEADER_ADDRESS": "big-3.big.prod", "LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "2"}


def files(**contents: str) -> Callable[[str], str]:
    """Make a reader of files named ``/name``."""

    def read(path: str) -> str:
        try:
            return contents[path.removeprefix("/")]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    return read


def found(
    environ: Mapping[str, str],
    flags: Mapping[str, str] | None = None,
    hostname: str = "host",
    **contents: str,
) -> Resolved:
    return resolve_settings(flags or {}, environ, hostname, files(**contents))


def settled(environ: Mapping[str, str], **contents: str) -> Settings:
    return resolve_settings({}, {**ALONE, **environ}, "host", files(**contents)).settings


def problems(
    environ: Mapping[str, str], flags: Mapping[str, str] | None = None, **contents: str
) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as error:
        found(environ, flags, **contents)
    return error.value.problems


def test_the_defaults() -> None:
    settings = settled({})
    assert (settings.unit, settings.size, settings.rank) == ("unit", 1, 0)
    assert (settings.mode, settings.restart, settings.guard) == (Mode.SERVICE, Restart.INPLACE, False)
    assert (settings.max_restarts, settings.restart_window) == (10, 3600)
    assert settings.backoff == (0, 1, 2, 5, 10, 30, 60)
    assert (settings.lease, settings.heartbeat, settings.timing) == (5, 1, Timing.from_lease(5, 1))
    assert (settings.stop_grace, settings.restart_grace, settings.drain, settings.deregister) == (
        25,
        5,
        15,
        2,
    )
    assert (settings.http_host, settings.http_port) == ("::", 9470)
    assert (settings.health_interval, settings.health_timeout, settings.health_failures) == (5, 30, 3)
    assert (settings.framework, settings.rdma, settings.dashboard) == ("none", "off", "unit")
    assert (settings.log_format, settings.log_level, settings.revision) == (None, "info", "")
    assert settings.redis_url is None
    assert settings.command == ()


def test_flag_over_environment_over_service_file_over_platform_over_default() -> None:
    service = json.dumps({"unit": {"size": 7, "guard": True}, "containers": [{"port": 8000}]})
    environ = LWS | {"UNIT_CONFIG": "/s", "UNIT_TRAFFIC_PORT": "9000", "UNIT_MODE": "job"}
    result = found(environ, {"UNIT_MODE": "service"}, s=service)
    assert result.settings.mode == "service"
    assert result.settings.traffic_port == 9000
    assert result.settings.size == 7
    assert result.settings.guard
    assert (result.settings.rank, result.settings.unit) == (2, "big-3")
    assert result.sources["UNIT_MODE"] == "flag --mode"
    assert result.sources["UNIT_TRAFFIC_PORT"] == "environment"
    assert result.sources["UNIT_GUARD"] == "service file /s: unit.guard"
    assert result.sources["RANK_ID"].startswith("platform LWS")
    assert result.sources["UNIT_LEASE_SECONDS"] == "default"
    assert result.sources["UNIT_SERVICE"] == "not set"
    assert result.sources.keys() == result.texts.keys() == VARIABLES.keys()


def test_the_platform_fills_what_is_missing() -> None:
    result = found(LWS)
    assert result.platform == "LWS"
    assert (result.settings.size, result.settings.rank) == (4, 2)
    assert (result.settings.master_address, result.settings.unit) == ("big-3.big.prod", "big-3")


def test_an_overruled_platform_is_not_believed_about_the_leader() -> None:
    result = found(LWS | {"RANK_ID": "1", "UNIT_REDIS_URL": "redis://r"})
    assert result.settings.rank == 1
    assert result.settings.master_address is None
    assert "overrides 2 (platform LWS" in result.warnings[0]


def test_a_manifest_may_map_the_controllers_variables_to_ours() -> None:
    result = found(LWS | {"RANK_ID": "2", "MASTER_ADDRESS": "big-3.big.prod"})
    assert (result.settings.size, result.settings.unit, result.warnings) == (4, "big-3", ())


def test_explicit_rank_and_size_need_no_platform_to_be_right() -> None:
    assert found({"LWS_GROUP_SIZE": "2"} | ALONE).settings.size == 1


def test_a_stateful_set_finds_its_leader_in_its_hosts_file() -> None:
    hosts = {"etc/hosts": "10.0.0.9\tweb-1.web.ns.svc.cluster.local\tweb-1\n"}
    account = {"var/run/secrets/kubernetes.io/serviceaccount/namespace": "ns"}
    result = resolve_settings({}, {"UNIT_SIZE": "2"}, "web-1", files(**hosts, **account))
    assert (result.settings.rank, result.settings.master_address) == (1, "web-0.web.ns.svc.cluster.local")


def test_a_machine_is_no_pod_for_its_name() -> None:
    with pytest.raises(ConfigurationError, match="RANK_ID missing: UNIT_SIZE=2"):
        found({"UNIT_SIZE": "2"}, hostname="gpu-1")


def test_a_platform_without_ranks_still_tells_what_it_knows() -> None:
    environ = {"RAY_CLUSTER_NAME": "ray", "FQ_RAY_IP": "ray-head-svc.ns.svc", "UNIT_SIZE": "2"}
    settings = found(environ | {"RANK_ID": "1"}).settings
    assert (settings.unit, settings.master_address) == ("ray", "ray-head-svc.ns.svc")
    settings = found(environ | {"RANK_ID": "auto", "UNIT_REDIS_URL": "redis://h"}).settings
    assert (settings.unit, settings.rank) == ("ray", None)
    settings = found({"HEAD_SVC": "llama-head-1", "RAY_NODE_COUNT": "3", "RANK_ID": "1"}).settings
    assert (settings.size, settings.master_address) == (3, "llama-head-1")


def test_empty_counts_as_unset() -> None:
    result = found({**dict.fromkeys(VARIABLES, ""), **LWS, "UNIT_GUARD": "  "}, {"UNIT_ID": ""})
    assert (result.settings.rank, result.settings.guard, result.settings.unit) == (2, False, "big-3")


@pytest.mark.parametrize("name", ["MASTER_ADDRESS", "RANK_IP"])
def test_an_address_of_ipv6_may_be_in_brackets(name: str) -> None:
    result = found({"RANK_ID": "1", "UNIT_SIZE": "2", "MASTER_ADDRESS": "h", name: "[2001:DB8:0::a]"})
    assert getattr(result.settings, name.lower()) == "2001:db8::a"


@pytest.mark.parametrize("name", ["MASTER_ADDRESS", "RANK_IP"])
@pytest.mark.parametrize("text", ["::ffff:10.0.0.1", "[::ffff:10.0.0.1]", "::FFFF:a00:1"])
def test_ipv4_written_as_ipv6_is_ipv4(name: str, text: str) -> None:
    result = found({"RANK_ID": "1", "UNIT_SIZE": "2", "MASTER_ADDRESS": "h", name: text})
    assert getattr(result.settings, name.lower()) == "10.0.0.1"


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "On"])
def test_words_for_yes(text: str) -> None:
    assert settled({"UNIT_GUARD": text}).guard is True


@pytest.mark.parametrize("text", ["false", "False", "0", "NO", "off"])
def test_words_for_no(text: str) -> None:
    assert settled({"UNIT_GUARD": text}).guard is False


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::]:9470", ("::", 9470)),
        ("[::ffff:0.0.0.0]:9470", ("0.0.0.0", 9470)),
        ("[::ffff:127.0.0.1]:9470", ("127.0.0.1", 9470)),
        ("localhost:9470", ("localhost", 9470)),
        ("off", ("", 0)),
    ],
)
def test_probe_addresses(text: str, address: tuple[str, int]) -> None:
    settings = settled({"UNIT_HTTP_ADDRESS": text})
    assert (settings.http_host, settings.http_port) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://10.0.0.1",
        "redis://user:pa%40ss@redis.ns.svc:6380/3",
        "rediss://h:6379/0?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
        "redis://[fd00::1]:6379",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://:pw@a:26379,b:26379,[fd00::2]:26379/mymaster/1",
        "redis+sentinel://a/mymaster",
        "redis+cluster://a:7000,b:7001",
    ],
)
def test_every_form_of_the_store(url: str) -> None:
    assert settled({"UNIT_REDIS_URL": url}).redis_url == url


def test_url_and_secret_from_files() -> None:
    environ = {"UNIT_REDIS_URL_FILE": "/url", "UNIT_SECRET_FILE": "/secret"}
    result = found(ALONE | environ, url="redis://:hunter2@h\n", secret=" hunter3-hunter3-hunter3\n")  # noqa: S106 - what is tested
    assert (result.settings.redis_url, result.settings.secrets) == (
        "redis://:hunter2@h",
        ("hunter3-hunter3-hunter3",),
    )
    assert result.sources["UNIT_REDIS_URL"] == "file /url"
    assert "hunter" not in f"{result}{result.texts}"
    assert result.texts["UNIT_REDIS_URL"] == "redis://***@h"


def test_a_flag_wins_over_a_file_that_the_environment_names_and_the_other_way_round() -> None:
    given = ALONE | {"UNIT_REDIS_URL_FILE": "/url"}
    settings = found(given, {"UNIT_REDIS_URL": "redis://flag"}, url="redis://file").settings
    assert (settings.redis_url, settings.redis_url_file) == ("redis://flag", None)
    given = ALONE | {"UNIT_REDIS_URL": "redis://environment", "UNIT_SECRET": "a" * 16}
    files = {"UNIT_REDIS_URL_FILE": "/url", "UNIT_SECRET_FILE": "/secret"}
    settings = found(given, files, url="redis://file", secret="b" * 16).settings
    assert (settings.redis_url, settings.redis_url_file, settings.secrets) == (
        "redis://file",
        "/url",
        ("b" * 16,),
    )


REFUSED = [
    ("UNIT_SIZE", text) for text in ("0", "1025", "-1", "1.5", "1e3", "two", "٣", "1_0", "9" * 5000, "nan")
]
REFUSED += [("RANK_ID", text) for text in ("-1", "1024", "first", "0x1")]
REFUSED += [("UNIT_ID", text) for text in ("a b", ".", "..", "a/b", "é", "x" * 129, "a\nb")]
REFUSED += [
    (name, text)
    for name in ("UNIT_LEASE_SECONDS", "UNIT_STOP_GRACE_SECONDS", "UNIT_HEALTH_TIMEOUT_SECONDS")
    for text in ("nan", "inf", "-1", "-inf", "1e300", "5s", "1_0", "")[:-1]
]
REFUSED += [("UNIT_HEALTH_TIMEOUT_SECONDS", "0"), ("UNIT_HEALTH_INTERVAL_SECONDS", "0")]
REFUSED += [("UNIT_HEARTBEAT_SECONDS", "0"), ("UNIT_HEALTH_FAILURES", "0"), ("UNIT_MAX_RESTARTS", "-1")]
REFUSED += [("UNIT_BACKOFF_SECONDS", text) for text in ("1,,2", "1,x", "1,-1", ",")]
REFUSED += [("UNIT_GUARD", "maybe"), ("UNIT_MODE", "batch"), ("UNIT_RESTART", "always")]
REFUSED += [("UNIT_FRAMEWORK", "trt"), ("UNIT_RDMA", "on"), ("UNIT_DASHBOARD", "all")]
REFUSED += [("UNIT_LOG_FORMAT", "xml"), ("UNIT_LOG_LEVEL", "loud"), ("UNIT_REVISION", "a\tb")]
REFUSED += [
    ("UNIT_HTTP_ADDRESS", text)
    for text in ("9470", ":9470", "h:", "h:0", "h:65536", "::1:9470", "[::1]", "[x]:1", "a b:1")
]
REFUSED += [("UNIT_TRAFFIC_PORT", text) for text in ("0", "65536", "http")]
REFUSED += [
    ("UNIT_HEALTH_URL", text) for text in ("/health", "ftp://h/", "http://", "http://h:x/", "http://[")
]
REFUSED += [
    ("RANK_IP", text) for text in ("host", "0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "10.0.0.1:80")
]
REFUSED += [("COMM_IFNAME", text) for text in ("eth0/1", "x" * 128, "..", "a b")]
REFUSED += [("COMM_IFNAME", text) for text in ("=eth0", "^lo", "eth0,eth1", "^lo,docker0", "=eth0,eth1", ",")]
REFUSED += [
    ("MASTER_ADDRESS", text)
    for text in (
        "[10.0.0.1]",
        "[h]",
        "[::1",
        "[::1]:80",
        "10.0.0.1:80",
        "a b",
        "999.1.1.1",
        "http://h",
        "x." * 200,
    )
]
REFUSED += [("UNIT_WARM_MODULES", text) for text in ("a b", "a,,b", "a.", "1a", "a/b")]
REFUSED += [("UNIT_WARMUP_URL", text) for text in ("on", "ftp://h/x", "h/x", "http://")]
REFUSED += [("UNIT_WARMUP_BODY", text) for text in ("{", "model", "a\nb")] + [("UNIT_WARMUP_SECONDS", "0")]
REFUSED += [("UNIT_WARM", text) for text in ("on", "true", "always")]
REFUSED += [
    ("UNIT_REDIS_URL", text)
    for text in (
        "localhost:6379",
        "http://h",
        "redis://",
        "redis://h:0",
        "redis://h/x",
        "redis://h/0/1",
        "redis://a,b",
        "redis://[::1",
        "unix://run.sock",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/m/x",
        "redis+cluster://a:1/3",
        "redis+cluster://a:1,,b:2",
    )
]


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_refusal_names_variable_value_and_what_is_accepted(name: str, text: str) -> None:
    said = [problem for problem in problems(ALONE | {name: text}) if problem.startswith(f"{name}=")]
    assert len(said) == 1
    assert "environment" in said[0]
    assert f": must be {VARIABLES[name].kind.accepted}" in said[0]
    shown = repr(VARIABLES[name].mask_value(text))
    assert shown in said[0]


@pytest.mark.parametrize("text", ["=eth0", "^docker0", "eth0,eth1"])
def test_who_lists_interface_is_told_where_lists_belong(text: str) -> None:
    (said,) = problems(ALONE | {"COMM_IFNAME": text})
    assert "name the one interface" in said
    assert "set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME to them" in said


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h:6379?foo=1", "option foo is unknown"),
        ("redis://h?db=x", "the database is not a number"),
        ("redis://h/1?db=2", "given twice"),
        ("unix://host/a", "absolute path"),
        ("redis://h?ssl_ca_certs=/c", "needs a scheme with TLS"),
        ("redis://h?socket_timeout=5", "option socket_timeout is unknown"),
        ("redis://:pass#@h", "# is %23"),
    ],
)
def test_what_the_store_would_not_take_is_refused_at_the_start_with_the_reason(url: str, reason: str) -> None:
    for environ in ({"UNIT_REDIS_URL": url}, {"UNIT_REDIS_URL_FILE": "/url"}):
        said = problems(ALONE | environ, url=url)
        assert len(said) == 1, said
        assert reason in said[0]
        assert "# in a password percent-encoded" in said[0]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "RANK_ID and UNIT_SIZE missing"),
        ({"RANK_ID": "1", "UNIT_REDIS_URL": "redis://h"}, "UNIT_SIZE missing: RANK_ID=1"),
        ({"RANK_ID": "1", "MASTER_ADDRESS": "10.0.0.1"}, "set UNIT_SIZE from 1 to 1024, or UNIT_CONFIG"),
        ({"UNIT_SIZE": "2"}, "RANK_ID missing: UNIT_SIZE=2"),
        ({"RANK_ID": "auto", "UNIT_REDIS_URL": "redis://h"}, "UNIT_SIZE missing"),
        ({"RANK_ID": "2", "UNIT_SIZE": "2", "UNIT_REDIS_URL": "redis://h"}, "the rank must be from 0 to 1"),
        (
            {"RANK_ID": "3", "UNIT_SIZE": "2", "UNIT_SPARES": "1", "UNIT_REDIS_URL": "redis://h"},
            "or set UNIT_SPARES to the number of instances that stand by",
        ),
        ({"RANK_ID": "2", "UNIT_SIZE": "2", "UNIT_SPARES": "1"}, "UNIT_REDIS_URL missing: RANK_ID=2"),
        ({"RANK_ID": "1", "UNIT_SIZE": "2"}, "MASTER_ADDRESS missing"),
        ({"RANK_ID": "auto", "UNIT_SIZE": "2"}, "UNIT_REDIS_URL missing"),
        ({"RAY_CLUSTER_NAME": "ray"}, "RANK_ID and UNIT_SIZE missing: KubeRay provides neither"),
        (
            {"HEAD_SVC": "h", "RAY_NODE_COUNT": "2"},
            "KServe InferenceService provides no rank; set RANK_ID to 0 … ",
        ),
        ({"HEAD_SVC": "h", "RAY_NODE_COUNT": "2"}, "or to auto to claim a free rank in the store"),
        (ALONE | {"UNIT_HTTP_ADDRESS": "127.0.0.1:65535"}, "UNIT_HTTP_ADDRESS=127.0.0.1:65535 (environment)"),
        (
            ALONE | {"UNIT_STORE_PORT": "9470"},
            "UNIT_STORE_PORT=9470 (environment) with UNIT_HTTP_ADDRESS=[::]",
        ),
        (ALONE | {"UNIT_STORE_PORT": "8000", "UNIT_TRAFFIC_PORT": "8000"}, "with UNIT_TRAFFIC_PORT=8000"),
        (ALONE | {"UNIT_STORE_PORT": "tcp://10.0.0.9:6379"}, "a Kubernetes service link"),
        ({"LWS_GROUP_SIZE": "2"}, "LWS_WORKER_INDEX, LWS_LEADER_ADDRESS missing"),
        (LWS | {"LWS_WORKER_INDEX": "4"}, "RANK_ID=4 (platform LWS"),
        (LWS | {"LWS_LEADER_ADDRESS": "a b"}, "MASTER_ADDRESS='a b' (platform LWS"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "RANK_ID and UNIT_SIZE missing"),
        (ALONE | {"UNIT_LEASE_SECONDS": "1.5"}, "UNIT_LEASE_SECONDS=1.5"),
        (ALONE | {"UNIT_HEARTBEAT_SECONDS": "3"}, "UNIT_HEARTBEAT_SECONDS=3"),
        (ALONE | {"UNIT_DRAIN_SECONDS": "23"}, "UNIT_STOP_GRACE_SECONDS=25"),
        (ALONE | {"UNIT_STOP_GRACE_SECONDS": "10", "UNIT_DRAIN_SECONDS": "15"}, "UNIT_DRAIN_SECONDS=15"),
        (
            ALONE | {"UNIT_CONFIG": "/nowhere"},
            "UNIT_CONFIG='/nowhere': must be the path of a readable file (No such file or directory)",
        ),
        (ALONE | {"UNIT_SECRET_FILE": "/nowhere"}, "UNIT_SECRET_FILE='/nowhere'"),
        (ALONE | {"UNIT_REDIS_URL_FILE": "/empty"}, "UNIT_REDIS_URL_FILE='/empty': the file is empty"),
        (
            ALONE | {"UNIT_SECRET": "a" * 16, "UNIT_SECRET_FILE": "/f"},
            "UNIT_SECRET (environment) and UNIT_SECRET_FILE",
        ),
        (
            ALONE | {"UNIT_REDIS_URL": "redis://h", "UNIT_REDIS_URL_FILE": "/f"},
            "must not both be set; unset one of them",
        ),
        (ALONE | {"UNIT_TRAFFIC_PORT": "tcp://10.0.0.1:80"}, "enableServiceLinks: false"),
        (ALONE | {"UNIT_SERVICE": "tcp://10.0.0.1:80"}, "Kubernetes service link"),
        (ALONE | {"UNIT_CONFIG": "/itself"}, "starts unitagent itself"),
        (ALONE | {"UNIT_CONFIG": "/later"}, "starts unitagent itself"),
        (ALONE | {"UNIT_CONFIG": "/broken"}, "UNIT_CONFIG='/broken' is not JSON"),
    ],
)
def test_what_does_not_go_together(environ: dict[str, str], said: str) -> None:
    itself = json.dumps({"containers": [{"script": "/usr/bin/unitagent run -- vllm serve"}]})
    later = json.dumps({"containers": [{"script": "cd /src\nexec unitagent run"}]})
    told = problems(environ, f="x", empty="\n", itself=itself, later=later, broken="{")
    assert [problem for problem in told if said in problem], told
    assert len(told) == 1


@pytest.mark.parametrize(
    ("lease", "heartbeat", "near"),
    [
        ("1.5", "1", ("1.5", "0.75")),  # the lease is kept, the heartbeat lowered
        ("5", "3", ("5", "2.5")),
        ("0.5", "0.2", ("1", "0.2")),
        ("5", "0.1", ("5", "0.2")),
        ("0.3", "0.1", ("1", "0.2")),
        ("1", "1.2345651", None),  # more digits than are shown
        ("1", "1234567", None),
    ],
)
def test_a_lease_that_cannot_keep_the_guarantees_is_refused_with_one_that_can(
    lease: str, heartbeat: str, near: tuple[str, str] | None
) -> None:
    (said,) = problems(ALONE | {"UNIT_LEASE_SECONDS": lease, "UNIT_HEARTBEAT_SECONDS": heartbeat})
    begin = (
        f"UNIT_LEASE_SECONDS={lease} (environment) with UNIT_HEARTBEAT_SECONDS={heartbeat} (environment): "
    )
    assert said.startswith(begin)
    named = re.search(r"UNIT_LEASE_SECONDS=(\S+) with UNIT_HEARTBEAT_SECONDS=(\S+)$", said)
    assert named
    assert near in {None, named.groups()}
    settings = settled({"UNIT_LEASE_SECONDS": named[1], "UNIT_HEARTBEAT_SECONDS": named[2]})
    assert settings.timing == Timing.from_lease(float(named[1]), float(named[2]))


@pytest.mark.parametrize(("lease", "heartbeat"), [("2", "1"), ("1", "0.5"), ("1", "0.2"), ("600", "1")])
def test_a_lease_that_keeps_them_just_so_is_accepted(lease: str, heartbeat: str) -> None:
    settings = settled({"UNIT_LEASE_SECONDS": lease, "UNIT_HEARTBEAT_SECONDS": heartbeat})
    assert (settings.timing.lease, settings.timing.heartbeat) == (float(lease), float(heartbeat))


def test_the_highest_port_will_do_where_no_store_is_above_it() -> None:
    assert settled({"UNIT_HTTP_ADDRESS": "h:65535", "UNIT_REDIS_URL": "redis://h"}).http_port == 65535
    assert settled({"UNIT_HTTP_ADDRESS": "h:65534"}).http_port == 65534


def test_all_problems_at_once() -> None:
    environ = {"UNIT_SIZE": "x", "UNIT_LEASE_SECONDS": "nan", "UNIT_SECRET_FILE": "/nowhere"}
    assert len(problems(environ)) == 4  # RANK_ID is missing as well


@pytest.mark.parametrize("page", ["unit", "store", "off", "OFF"])
def test_every_page_is_accepted(page: str) -> None:
    assert settled({"UNIT_DASHBOARD": page}).dashboard == page.lower()


def test_the_name_in_a_service_file_is_no_request() -> None:
    named = json.dumps(
        {"metadata": {"name": "chat"}, "unit": {"size": 1}, "containers": [{"script": "true"}]}
    )
    assert settled({"UNIT_CONFIG": "/named"}, named=named).service == "chat"


def test_a_short_grace_shortens_the_defaults_within_it() -> None:
    settings = settled({"UNIT_STOP_GRACE_SECONDS": "5"})
    assert (settings.drain, settings.deregister) == (3, 0.4)
    settings = settled({"UNIT_STOP_GRACE_SECONDS": "0"})
    assert (settings.drain, settings.deregister) == (0, 0)
    settings = settled({"UNIT_STOP_GRACE_SECONDS": "600"})
    assert (settings.drain, settings.deregister) == (15, 2)


@pytest.mark.parametrize(
    "url", ["redis://u:hunter2@h", "redis://:hunter2@h:x", "redis://h?password=hunter2", "u:hunter2@h"]
)
def test_a_password_is_never_said_and_never_taken_from_the_command_line(url: str) -> None:
    told = "".join(problems(ALONE | {"UNIT_LEASE_SECONDS": "0"}, {"UNIT_REDIS_URL": url}))
    assert "hunter2" not in told
    assert "--redis-url" in told


def test_a_password_from_the_environment_is_taken_and_not_shown() -> None:
    result = found(
        ALONE | {"UNIT_REDIS_URL": "redis://u:hunter2@h", "UNIT_SECRET": "hunter3-hunter3-hunter3"}
    )
    assert result.settings.redis_url == "redis://u:hunter2@h"
    assert "hunter" not in f"{result.settings}{result.texts}{result.sources}{result.warnings}"


def test_the_highest_probe_port_needs_another_port_for_the_store() -> None:
    environ = {"UNIT_HTTP_ADDRESS": "127.0.0.1:65535", "UNIT_STORE_PORT": "9000"}
    assert settled(environ).store_port == 9000


@pytest.mark.parametrize("given", [{"UNIT_REDIS_URL": "redis://h"}, {"UNIT_REDIS_URL_FILE": "/url"}])
def test_a_port_for_an_embedded_store_that_there_is_not_is_ignored(given: dict[str, str]) -> None:
    environ = ALONE | {"UNIT_ID": "u", "UNIT_STORE_PORT": "9470"} | given
    result = found(environ, url="redis://h")
    assert [warning.partition(":")[0] for warning in result.warnings] == [
        "UNIT_STORE_PORT=9470 (environment) is ignored"
    ]


def test_warnings() -> None:
    environ = ALONE | {"UNIT_GAURD": "1", "UNIT_PORT": "tcp://10.0.0.1:80", "UNIT_REDIS_URL": "redis://h"}
    environ |= {"UNIT_SERVICE_HOST": "10.0.0.1", "UNIT_RANK_IPS": "10.0.0.1", "UNIT_AGENT": "1"}
    told = found(environ).warnings
    assert len(told) == 3
    assert "UNIT_PORT='tcp://10.0.0.1:80' (a Kubernetes service link)" in told[0]
    assert "did you mean UNIT_GUARD?" in told[1]
    assert "UNIT_ID is not set" in told[2]


def test_a_service_file_gives_command_environment_and_checks() -> None:
    container = {
        "script": "vllm serve /m",
        "env": [{"name": "A", "value": "b"}],
        "health_check": {"tcp_socket": {"port": 1}},
    }
    environ = ALONE | {"UNIT_CONFIG": "/s"}
    read = files(s=json.dumps({"containers": [container]}))
    result = resolve_settings({}, environ, "h", read)
    assert result.settings.command == ("/bin/sh", "-c", "vllm serve /m")
    assert result.environment == {"A": "b"}
    assert result.checks["health_check"].port == 1
    assert resolve_settings({}, environ, "h", read, command=["x"]).settings.command == ("x",)


EAS = {"COMM_IFNAME": "eth1", "RANK_IP": "10.0.0.2", "MASTER_ADDRESS": "10.0.0.1"}


@pytest.mark.parametrize(
    ("environ", "rpc", "sigterm", "warned"),
    [
        (EAS, {}, None, True),
        (EAS, {"enable_sigterm": False}, False, True),
        (EAS, {"enable_sigterm": True}, True, False),
        ({"MASTER_ADDRESS": "rank0"}, {}, None, False),
        ({}, {}, None, False),
    ],
)
def test_eas_has_to_be_asked_for_a_signal(
    environ: dict[str, str], rpc: dict[str, bool], sigterm: bool | None, warned: bool
) -> None:
    service = json.dumps({"metadata": {"rpc": rpc}, "containers": [{"script": "serve"}]})
    result = found(ALONE | environ | {"UNIT_CONFIG": "/s"}, s=service)
    assert result.sigterm is sigterm
    assert any("rpc.enable_sigterm" in warning for warning in result.warnings) is warned


def test_commands_that_join_nothing_need_no_identity() -> None:
    result = resolve_settings(
        {}, {"UNIT_REDIS_URL": "redis://h", "LWS_GROUP_SIZE": "2"}, "h", files(), identity=False
    )
    assert (result.settings.size, result.settings.rank) == (0, None)


def test_a_secret_file_that_is_no_text() -> None:
    def read(path: str) -> str:
        if path == "/secret":
            return b"\xff".decode()
        raise FileNotFoundError(path)

    with pytest.raises(
        ConfigurationError,
        match=re.escape("UNIT_SECRET_FILE='/secret': must be the path of a readable file (not UTF-8 text)"),
    ):
        resolve_settings({}, ALONE | {"UNIT_SECRET_FILE": "/secret"}, "h", read)


PLATFORM_NAMES = {
    *(name for rule in (*TABLE, *RAY_PODS) for name in rule.marks + rule.needs),
    *("GROUP_SIZE", "WORKER_INDEX", "GROVE_PCSG_NAME", "VC_A_NUM", "SLURM_NODEID", "SLURM_NNODES"),
    *("SLURM_NODELIST", "KUBERNETES_SERVICE_HOST", "FQ_RAY_IP", "RAY_NODE_COUNT", "JAX_PROCESS_ID"),
}
NAMES = st.sampled_from([*VARIABLES, *sorted(PLATFORM_NAMES)]) | st.text(max_size=8).map(
    lambda t: "UNIT_" + t
)
ORDINARY = st.sampled_from(
    ["0", "1", "2", "4", "auto", "true", "job", "redis://h", "/f", "tcp://h:1", "10.0.0.1", "a-1"]
)
TEXTS = ORDINARY | st.text(max_size=20) | st.floats().map(str)


@given(
    st.dictionaries(NAMES, TEXTS), st.dictionaries(st.sampled_from([*VARIABLES]), TEXTS), st.text(), st.text()
)
def test_anything_gives_settings_or_a_configuration_error(
    environ: dict[str, str], flags: dict[str, str], hostname: str, content: str
) -> None:
    with suppress(ConfigurationError):
        reader = files(**{"f": content, "etc/hosts": content})
        settings = resolve_settings(flags, environ, hostname, reader).settings
        assert settings.rank is None or settings.rank < settings.size <= 1024
        assert settings.timing == Timing.from_lease(
            settings.lease, settings.heartbeat
        )  # which asserts what it needs


def test_an_instance_beyond_the_size_is_a_spare_and_claims_a_rank() -> None:
    spare = {"RANK_ID": "3", "UNIT_SIZE": "2", "UNIT_SPARES": "2", "UNIT_REDIS_URL": "redis://h"}
    result = found(spare)
    assert (result.settings.rank, result.settings.spares, result.texts["RANK_ID"]) == (None, 2, "3")
    assert found(spare | {"RANK_ID": "1"}).settings.rank == 1


def test_a_platform_counts_the_spares_as_well() -> None:
    group = LWS | {"LWS_WORKER_INDEX": "3", "UNIT_SIZE": "3", "UNIT_REDIS_URL": "redis://h"}
    result = found(group | {"UNIT_SPARES": "1"})
    assert (result.settings.size, result.settings.rank, result.warnings) == (3, None, ())
    (warning,) = found(group | {"UNIT_SPARES": "2", "LWS_WORKER_INDEX": "2"}).warnings
    assert warning.startswith("UNIT_SIZE=3 (environment) overrides 4")
