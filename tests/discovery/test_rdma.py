"""RDMA devices in trees laid out like sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.discovery.sysfs import LOCAL, MAPPED, NONE, Sysfs
from unitagent.discovery.rdma import Gid, find_hca

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_a_interface_with_a_device_of_its_own(sysfs: Sysfs) -> None:
    sysfs.interface("eth2", "mlx5_1")
    sysfs.hca("mlx5_1")
    sysfs.gid("mlx5_1", 0, LOCAL, "eth2")
    sysfs.gid("mlx5_1", 3, MAPPED, "eth2")
    sysfs.gid("mlx5_1", 4, NONE, "eth2")
    sysfs.verbs("mlx5_1", 4)
    found = find_hca("eth2", sysfs.root)
    assert found is not None
    assert found.usable
    assert found.nccl == "=mlx5_1:1"
    assert found.link_layer == "Ethernet"
    assert found.gids == (Gid(0, LOCAL, "RoCE v2", "eth2"), Gid(3, MAPPED, "RoCE v2", "eth2"))


def test_a_macvlan_interface_is_found_by_the_gid_tables(sysfs: Sysfs) -> None:
    sysfs.interface("net1")
    for name in ("mlx5_1", "mlx5_10"):
        sysfs.hca(name)
    sysfs.gid("mlx5_1", 5, MAPPED, "eth0")
    sysfs.gid("mlx5_10", 7, MAPPED, "net1")
    sysfs.verbs("mlx5_10")
    found = find_hca("net1", sysfs.root)
    assert found is not None
    assert found.nccl == "=mlx5_10:1"


def test_the_port_is_the_one_whose_table_names_the_interface(sysfs: Sysfs) -> None:
    sysfs.interface("eth3", "mlx4_0")
    for port in (1, 2):
        sysfs.hca("mlx4_0", port)
        sysfs.gid("mlx4_0", 0, MAPPED, f"eth{port + 1}", port)
    found = find_hca("eth3", sysfs.root)
    assert found is not None
    assert found.port == 2


def test_without_a_table_the_port_is_the_interface_own(sysfs: Sysfs) -> None:
    sysfs.interface("ib1", "mlx4_0", dev_port=1)
    sysfs.hca("mlx4_0", 2)
    found = find_hca("ib1", sysfs.root)
    assert found is not None
    assert found.nccl == "=mlx4_0:2"


def test_what_another_namespace_owns_is_skipped(sysfs: Sysfs) -> None:
    """The kernel answers EINVAL there; a folder in a file's place refuses to be read just as well."""
    sysfs.interface("eth2", "mlx5_0")
    sysfs.hca("mlx5_0")
    sysfs.gid("mlx5_0", 1, MAPPED, "eth2")
    for part in ("gids/0", "gid_attrs/ndevs/0", "gid_attrs/types/0"):
        (sysfs.root / "sys/class/infiniband/mlx5_0/ports/1" / part).mkdir()
    sysfs.verbs("mlx5_0")
    found = find_hca("eth2", sysfs.root)
    assert found is not None
    assert found.usable
    assert [gid.index for gid in found.gids] == [1]


@pytest.mark.parametrize(
    ("state", "link", "gid", "openable", "problem"),
    [
        ("1: DOWN", "5: LinkUp", MAPPED, True, "port state DOWN, not ACTIVE"),
        ("4: ACTIVE", "3: Disabled", MAPPED, True, "no physical link"),
        ("4: ACTIVE", "5: LinkUp", NONE, True, "no GID: the port has no address"),
        ("4: ACTIVE", "5: LinkUp", MAPPED, False, "no /dev/infiniband/uverbs device of it in this container"),
    ],
)
def test_why_a_port_is_not_usable(  # noqa: PLR0917 - one for each parameter
    sysfs: Sysfs, state: str, link: str, gid: str, openable: bool, problem: str
) -> None:
    sysfs.interface("eth2", "mlx5_0")
    sysfs.hca("mlx5_0", state=state, link=link)
    sysfs.gid("mlx5_0", 0, gid, "eth2")
    sysfs.verbs("mlx5_0", openable=openable)
    found = find_hca("eth2", sysfs.root)
    assert found is not None
    assert found.problems == (problem,)


def test_a_usable_port_goes_first(sysfs: Sysfs) -> None:
    sysfs.interface("bond0")
    sysfs.hca("mlx5_0", state="1: DOWN")
    sysfs.hca("mlx5_1")
    for number, name in enumerate(("mlx5_0", "mlx5_1")):
        sysfs.gid(name, 0, MAPPED, "bond0")
        sysfs.verbs(name, number)
    found = find_hca("bond0", sysfs.root)
    assert found is not None
    assert found.name == "mlx5_1"


def test_no_device_is_no_device(sysfs: Sysfs) -> None:
    assert find_hca("eth0", sysfs.root) is None
    sysfs.interface("eth0")
    sysfs.hca("mlx5_0")
    sysfs.gid("mlx5_0", 0, MAPPED, "eth9")
    assert find_hca("eth0", sysfs.root) is None
    assert find_hca("lo") is None
