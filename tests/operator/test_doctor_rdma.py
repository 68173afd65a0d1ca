"""The doctor on RDMA, and what ``UNIT_RDMA=auto`` gives to a workload: on a tree laid out like sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.discovery.sysfs import LOCAL, MAPPED, Sysfs
from unitagent.agent.launch import Launcher, choose_rdma_device
from unitagent.operator.doctor import container_checks
from unitagent.operator.doctor.doctor_cli import find_rdma_devices
from unitagent.settings.resolution import resolve_settings

if TYPE_CHECKING:
    from pathlib import Path

    from unitagent.settings import Resolved

PLACE = {"UNIT_SIZE": "1", "RANK_ID": "0", "COMM_IFNAME": "eth2", "RANK_IP": "10.0.0.2"}


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    """One device, whose second port is the interface's."""
    tree = Sysfs(tmp_path)
    tree.interface("eth2", "mlx5_1")
    tree.hca("mlx5_0")
    tree.hca("mlx5_1", 2)
    tree.gid("mlx5_1", 0, LOCAL, "eth2", 2)
    tree.gid("mlx5_1", 3, MAPPED, "eth2", 2)
    tree.verbs("mlx5_1")
    return tree


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCCL_IB_HCA", raising=False)


def settled(service: str = "", **environ: str) -> Resolved:
    given = PLACE | environ | ({"UNIT_CONFIG": "/s"} if service else {})
    return resolve_settings({}, given, "host", lambda _: service, command=["true"])


def asked(found: Resolved, ifname: str, sysfs: Sysfs) -> tuple[str, list[str]]:
    """Ask for the value of ``NCCL_IB_HCA``; give it with the warnings."""
    said: list[str] = []
    return choose_rdma_device(found, ifname, said.append, sysfs.root), said


def given_to_the_workload(found: Resolved, hca: str) -> str | None:
    launcher = Launcher(
        found, 0, ("eth2", "10.0.0.2"), marker="", defaults={"NCCL_IB_HCA": hca} if hca else {}
    )
    return launcher.prepare_dry_run().env.get("NCCL_IB_HCA")


def test_the_doctor_lists_the_gids_of_the_interface_s_port(sysfs: Sysfs) -> None:
    seen = find_rdma_devices("eth2", sysfs.root)
    assert seen.names == ["mlx5_0", "mlx5_1"]
    (finding,) = container_checks.judge_rdma(seen, "eth2", wanted=False)
    assert finding.detail == (
        f"mlx5_1 port 2 (Ethernet) belongs to eth2 and is usable; GIDs: 0 RoCE v2 {LOCAL}, 3 RoCE v2 {MAPPED}"
    )


def test_the_doctor_says_why_a_port_is_of_no_use(sysfs: Sysfs) -> None:
    sysfs.write("sys/class/infiniband/mlx5_1/ports/2/state", "1: DOWN")
    (finding,) = container_checks.judge_rdma(find_rdma_devices("eth2", sysfs.root), "eth2", wanted=False)
    assert finding.verdict == "warn"
    assert "port state DOWN, not ACTIVE; GIDs: 0 RoCE v2" in finding.detail


def test_the_doctor_of_a_machine_without_rdma_or_without_a_interface(sysfs: Sysfs, tmp_path: Path) -> None:
    assert find_rdma_devices("eth2", tmp_path / "none") == container_checks.RdmaDevices([])
    assert (
        find_rdma_devices("", sysfs.root)
        == find_rdma_devices("eth9", sysfs.root)
        == container_checks.RdmaDevices(["mlx5_0", "mlx5_1"])
    )


def test_nobody_who_did_not_ask_is_given_a_device(sysfs: Sysfs) -> None:
    assert asked(settled(), "eth2", sysfs) == ("", [])
    assert given_to_the_workload(settled(), "") is None


def test_who_asks_is_given_the_interface_s_device_by_its_exact_name(sysfs: Sysfs) -> None:
    found = settled(UNIT_RDMA="auto")
    hca, said = asked(found, "eth2", sysfs)
    assert (hca, said) == ("=mlx5_1:2", [])
    assert given_to_the_workload(found, hca) == "=mlx5_1:2"


def test_what_the_user_wrote_wins(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settled(UNIT_RDMA="auto")
    monkeypatch.setenv("NCCL_IB_HCA", "=mlx5_7")
    assert asked(found, "eth9", sysfs) == ("", [])
    assert given_to_the_workload(found, "=mlx5_1:2") == "=mlx5_7"


def test_what_the_service_file_says_wins_too(sysfs: Sysfs) -> None:
    service = '{"containers": [{"script": "true", "env": [{"name": "NCCL_IB_HCA", "value": "=mlx5_8"}]}]}'
    found = settled(service, UNIT_RDMA="auto")
    assert asked(found, "eth9", sysfs) == ("", [])
    assert given_to_the_workload(found, "=mlx5_1:2") == "=mlx5_8"


def test_a_device_that_cannot_be_used_is_said_and_not_given(sysfs: Sysfs) -> None:
    sysfs.write("sys/class/infiniband/mlx5_1/ports/2/state", "1: DOWN")
    hca, said = asked(settled(UNIT_RDMA="auto"), "eth2", sysfs)
    assert hca == ""
    assert "interface eth2 can be used: port state DOWN" in said[0]
