"""What the doctor makes of what it saw: tables, with no machine behind them."""

from __future__ import annotations

import dataclasses
import errno
import json
import socket
from typing import Any

import pytest

from unitagent.core.spares import Standby, describe_spares
from unitagent.errors import StoreError
from unitagent.operator.doctor import container_checks as container
from unitagent.operator.doctor import findings
from unitagent.operator.doctor import network_checks as network
from unitagent.operator.doctor import store_checks as store
from unitagent.operator.doctor import variable_checks as variables
from unitagent.operator.doctor.findings import Finding, Severity, fail, ok, warn
from unitagent.operator.doctor.warm_checks import WarmStart, judge_warm

OK, WARN, FAIL = Severity.OK, Severity.WARN, Severity.FAIL
PLENTY = container.Limits(shm=2**34, memlock=container.UNLIMITED, files=(2**20, 2**20))
PLACE = variables.AddressContext(ip="10.0.0.2", ifname="eth1", rank=1, size=2, leader=("10.0.0.1", "fd00::1"))


def verdicts(findings: list[Finding]) -> dict[str, Severity]:
    assert all(bool(found.remedy) == (found.verdict is not OK) for found in findings)
    return {found.check: found.verdict for found in findings}


@pytest.mark.parametrize(
    ("seen", "rdma", "shm", "memlock", "nofile"),
    [
        (PLENTY, True, OK, OK, OK),
        (container.Limits(None, 65536, (1024, 2**20)), False, WARN, OK, OK),
        (container.Limits(2**26, 65536, (1024, 4096)), True, WARN, WARN, WARN),
        (
            container.Limits(2**30, 0, (container.UNLIMITED, container.UNLIMITED)),
            True,
            OK,
            WARN,
            OK,
        ),
        (container.Limits(2**30 - 1, 0, (1024, container.UNLIMITED)), False, WARN, OK, OK),
    ],
)
def test_limits(
    seen: container.Limits, rdma: bool, shm: Severity, memlock: Severity, nofile: Severity
) -> None:
    judged = verdicts(list(container.judge_limits(seen, rdma=rdma)))
    assert judged == {"shm": shm, "memlock": memlock, "nofile": nofile}


def test_limits_are_read_of_this_process() -> None:
    seen = container.read_limits()
    assert seen.files[0] <= seen.files[1] or container.UNLIMITED in seen.files
    assert seen.shm is None or seen.shm >= 0


@pytest.mark.parametrize(
    "text",
    [
        "VLLM_PORT=tcp://10.0.0.1:80",
        "SGLANG_PORT=tcp://10.0.0.1:80",
        "HOST_IP=192.0.2.1",
        "VLLM_HOST_IP=192.0.2.1",
        "GLOO_SOCKET_IFNAME=eth0",
        "GLOO_SOCKET_IFNAME==eth1",
        "GLOO_SOCKET_IFNAME=eth",
        "GLOO_SOCKET_IFNAME=^lo,docker",
        "NCCL_SOCKET_IFNAME==eth10",
        "NCCL_SOCKET_IFNAME=^eth",
        "NCCL_SOCKET_IFNAME=^=eth1",
        "PET_NNODES=3",
        "PET_NNODES=1:2",
        "PET_NODE_RANK=0",
        "PET_RDZV_BACKEND=c10d",
        "PET_MASTER_ADDR=10.0.0.9",
        "PET_MASTER_PORT=29500",
        "PET_MAX_RESTARTS=3",
        "MASTER_ADDR=localhost",
        "NCCL_IB_GID_INDEX=3",
        "NCCL_IB_HCA=mlx5_1",
    ],
)
def test_a_variable_in_the_way_is_named(text: str) -> None:
    name, _, value = text.partition("=")
    found = variables.judge_variables({name: value, "PATH": "/bin"}, PLACE)
    assert [(one.check, one.verdict) for one in found] == [("variables", WARN)]
    assert found[0].detail.startswith(name)


@pytest.mark.parametrize(
    "text",
    [
        "VLLM_PORT=5000",
        "HOST_IP=10.0.0.2",
        "SGLANG_HOST_IP=",
        "GLOO_SOCKET_IFNAME=eth0,eth1",
        "NCCL_SOCKET_IFNAME==eth1",
        "NCCL_SOCKET_IFNAME=eth",
        "NCCL_SOCKET_IFNAME=^docker,lo",
        "NCCL_SOCKET_IFNAME=^=eth",
        "MASTER_ADDR=10.0.0.1",
        "PET_MASTER_ADDR=[fd00::1]",
        "PET_NNODES=2",
        "PET_NODE_RANK=1",
        "PET_NPROC_PER_NODE=8",
        "NCCL_IB_HCA==mlx5_1",
        "NCCL_IB_HCA=^mlx5_1",
    ],
)
def test_a_variable_that_agrees_is_left_alone(text: str) -> None:
    name, _, value = text.partition("=")
    assert [found.verdict for found in variables.judge_variables({name: value}, PLACE)] == [OK]


def test_who_reads_host_ip_is_said_as_it_is() -> None:
    (found,) = variables.judge_variables({"HOST_IP": "192.0.2.1"}, PLACE)
    assert "vLLM ignores it with a warning, and SGLang prefers the SGLANG_HOST_IP" in found.detail


def test_nothing_is_held_against_a_place_that_is_not_known() -> None:
    given = {"VLLM_HOST_IP": "1.2.3.4", "GLOO_SOCKET_IFNAME": "x", "PET_NNODES": "9", "PET_NODE_RANK": "8"}
    given |= {"MASTER_ADDR": "10.0.0.9", "PET_MASTER_ADDR": "10.0.0.9"}
    assert [found.verdict for found in variables.judge_variables(given, variables.AddressContext())] == [OK]


@pytest.mark.parametrize(
    ("pid", "first", "subreaper", "verdict"),
    [
        (1, "unitagent", True, OK),
        (1, "sh", False, OK),
        (7, "tini", True, OK),
        (7, "", True, OK),
        (7, "bash", True, WARN),
        (7, "tini", False, FAIL),
    ],
)
def test_who_stands_above_the_agent(pid: int, first: str, subreaper: bool, verdict: Severity) -> None:
    assert verdicts([container.judge_init(pid, first, subreaper=subreaper)]) == {"init": verdict}


@pytest.mark.parametrize(
    ("grace", "source", "runtime", "verdict"),
    [
        (25, "default", "", OK),
        (25, "default", "Kubernetes", OK),
        (30, "environment", "Kubernetes", WARN),
        (25, "default", "Docker", WARN),
        (8, "environment", "Docker", OK),
        (120, "service file s.json: eas.termination_grace_period", "Kubernetes", OK),
    ],
)
def test_the_stop_grace_against_what_is_usual(
    grace: float, source: str, runtime: str, verdict: Severity
) -> None:
    assert verdicts([container.judge_grace(grace, source, runtime)]) == {"grace": verdict}


@pytest.mark.parametrize(("lost", "verdict"), [(True, WARN), (False, OK)])
def test_caches_that_end_with_the_container(lost: bool, verdict: Severity) -> None:
    finding = container.judge_caches("/root/.cache/vllm", "the engine's default", lost=lost)
    assert verdicts([finding]) == {"caches": verdict}
    assert "/root/.cache/vllm (the engine's default)" in finding.detail


MLX = container.RdmaDevices(("mlx5_0",), "mlx5_0 port 1")


@pytest.mark.parametrize(
    ("seen", "wanted", "judged"),
    [
        (container.RdmaDevices(()), False, {}),
        (container.RdmaDevices(()), True, {"rdma": WARN}),
        (container.RdmaDevices(("mlx5_0",)), False, {"rdma": OK}),
        (container.RdmaDevices(("mlx5_0",)), True, {"rdma": WARN}),
        (MLX, False, {"rdma": OK}),
        (
            container.RdmaDevices(("mlx5_0",), "mlx5_0 port 1", problems=("port state DOWN",)),
            True,
            {"rdma": WARN},
        ),
    ],
)
def test_devices(seen: container.RdmaDevices, wanted: bool, judged: dict[str, Severity]) -> None:
    assert verdicts(list(container.judge_rdma(seen, "net0", wanted=wanted))) == judged


@pytest.mark.parametrize(
    ("ip", "size", "verdict"),
    [("10.0.0.1", 2, OK), ("127.0.0.1", 1, OK), ("127.0.0.1", 2, WARN), ("::1", 2, WARN), ("fd00::1", 2, OK)],
)
def test_the_address(ip: str, size: int, verdict: Severity) -> None:
    assert network.judge_address("eth1", ip, size).verdict is verdict


def lookup(*addresses: str, seconds: float = 0.01, trouble: str = "") -> network.Lookup:
    return network.Lookup("leader", addresses, seconds, trouble)


@pytest.mark.parametrize(
    ("seen", "rank", "needed", "verdict"),
    [
        (lookup("10.0.0.1"), 1, True, OK),
        (lookup("10.0.0.1", seconds=3), 1, True, WARN),
        (lookup(trouble="Name or service not known"), 1, True, FAIL),
        (lookup(trouble="Name or service not known"), 1, False, WARN),
        (lookup("10.0.0.2", "10.9.9.9"), 0, True, OK),
        (lookup("10.9.9.9"), 0, True, WARN),
        (lookup("10.9.9.9"), None, False, OK),
        (lookup("127.0.0.1", "::1"), 1, True, WARN),
        (lookup("127.0.0.1", "10.0.0.1"), 1, True, OK),
    ],
)
def test_the_leader_s_name(seen: network.Lookup, rank: int | None, needed: bool, verdict: Severity) -> None:
    assert verdicts([network.judge_leader(seen, rank, "10.0.0.2", needed=needed)]) == {"leader": verdict}


@pytest.mark.parametrize(
    ("trouble", "taken", "agent", "verdict"),
    [
        ("", False, False, OK),
        ("Address already in use", True, False, FAIL),
        ("Address already in use", True, True, OK),
        ("Permission denied", False, True, FAIL),
    ],
)
def test_a_port(trouble: str, taken: bool, agent: bool, verdict: Severity) -> None:
    port = network.TriedPort("probes", "::1", 80, trouble, taken)
    judged = network.judge_port(port, agent=agent)
    assert judged.verdict is verdict
    assert "[::1]:80" in judged.detail


@pytest.mark.parametrize(
    ("source", "trouble", "verdict"),
    [
        ("10.0.0.2", 0, OK),
        ("127.0.0.1", 0, OK),
        ("172.17.0.2", 0, WARN),
        ("10.0.0.2", errno.ECONNREFUSED, WARN),
        ("10.0.0.2", errno.ETIMEDOUT, FAIL),
        ("10.0.0.2", errno.EHOSTUNREACH, FAIL),
        ("", errno.ENETUNREACH, FAIL),
    ],
)
def test_the_way_to_a_peer(source: str, trouble: int, verdict: Severity) -> None:
    way = network.PeerConnection("10.0.0.3", 9470, source, 0.001, trouble)
    assert verdicts([network.judge_peer(way, "10.0.0.2")]) == {"peer": verdict}


def test_a_way_on_a_kernel_without_ipv6_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    way = network.try_peer("fd00::3", 9470, 0.1)
    assert "no route to [fd00::3]:9470" in network.judge_peer(way, "10.0.0.2").detail


@pytest.mark.parametrize(
    ("seconds", "ahead", "refused", "judged"),
    [
        ([0.001] * 5, 0.01, (), (OK, OK, OK)),
        ([0.001, 0.3, 0.4, 0.3, 0.001], 0, (), (WARN, OK, OK)),
        ([0.001] * 5, -30, (), (OK, OK, WARN)),
        ([0.001] * 5, 30, (store.RefusedCommands(("SET",), "no"),), (OK, FAIL, WARN)),
    ],
)
def test_the_store(
    seconds: list[float],
    ahead: float,
    refused: tuple[store.RefusedCommands, ...],
    judged: tuple[Severity, ...],
) -> None:
    found = store.judge_store(store.StoreAnswers("h:1", seconds, ahead, refused), 1.0)
    assert tuple(verdicts(list(found)).items()) == tuple(
        zip(("store", "rights", "clock"), judged, strict=True)
    )


def test_a_clock_that_is_behind_is_not_said_to_be_ahead() -> None:
    assert (
        "30.0 s behind the store's"
        in list(store.judge_store(store.StoreAnswers("h", [0.1], 30), 1.0))[2].detail
    )
    assert (
        "30.0 s ahead of the store's"
        in list(store.judge_store(store.StoreAnswers("h", [0.1], -30), 1.0))[2].detail
    )


@pytest.mark.parametrize(("wanted", "verdict"), [(1, OK), (2, WARN)])
def test_as_many_spares_stand_by_as_there_should_be(wanted: int, verdict: Severity) -> None:
    one = Standby(number=3, incarnation="one", ip="10.0.0.3", port=9470)
    found = store.judge_spares(describe_spares([one], 5.0, wanted=wanted))
    assert verdicts([found]) == {"spares": verdict}
    assert f"1 of {wanted}" in found.detail


def test_rank_0_s_own_store_may_start_later() -> None:
    assert store.judge_store_error(StoreError("no"), elsewhere=True).verdict is WARN
    assert store.judge_store_error(StoreError("no"), elsewhere=False).verdict is FAIL


def test_what_helps_is_what_the_store_wants() -> None:
    disk = StoreError("it cannot save", "make room")
    assert store.judge_store_error(disk, elsewhere=False).remedy == "make room"
    assert store.judge_embedded("h:1", "", open_to_all=True).verdict is WARN
    assert store.judge_embedded("h:1", "", open_to_all=False).verdict is OK
    assert store.judge_embedded("h:1", "it refuses", open_to_all=True).verdict is FAIL


@pytest.mark.parametrize(
    ("results", "worst", "code"),
    [
        ([], "ok", 0),
        ([ok("a", "b")], "ok", 0),
        ([warn("a", "b", "c"), ok("a", "b")], "warn", 0),
        ([fail("a", "b", "c"), warn("a", "b", "c")], "fail", 1),
    ],
)
def test_the_worst_verdict_decides(results: list[Finding], worst: str, code: int) -> None:
    assert findings.exit_code(results) == code
    seen = json.loads(findings.as_json(results))
    assert seen["verdict"] == worst
    assert [one["check"] for one in seen["checks"]] == [found.check for found in results]


def test_a_person_reads_remedies_below_their_findings() -> None:
    lines = findings.as_text([ok("a", "fine"), fail("b", "broken", "mend it")]).splitlines()
    assert lines == [
        "ok    a         fine",
        "fail  b         broken",
        f"{'':<16}-> mend it",
        "1 fail, 0 warn, 1 ok",
    ]


GOOD = WarmStart("/usr/bin/python3", (3, 11), ("a", "b"), (), (), "", shows_environment=True)


@pytest.mark.parametrize(
    ("changes", "verdict", "told"),
    [
        ({}, OK, "starts can come from /usr/bin/python3 (Python 3.11) with 2 modules;"),
        ({"version": (3, 8)}, WARN, "/usr/bin/python3 is Python 3.8"),
        ({"kernel": "memfd_create is refused"}, WARN, "each start is cold: memfd_create is refused"),
        ({"absent": ("a", "b")}, WARN, "/usr/bin/python3 does not find a, b"),
        ({"absent": ("b",)}, OK, "with 2 modules, without b;"),
        (
            {"absent": ("a", "b"), "hooks": ("x.pth", "x.pth")},
            OK,
            "without a, b (unless x.pth provides them)",
        ),
        ({"shows_environment": False}, OK, "/proc/PID/environ will show the environment of the gate"),
    ],
)
def test_warm_starts(changes: dict[str, Any], verdict: Severity, told: str) -> None:
    found = judge_warm(dataclasses.replace(GOOD, **changes))
    assert verdicts([found]) == {"warm": verdict}
    assert told in found.detail
