"""A tree laid out like sysfs, with the RDMA devices that a test puts there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAPPED = "0000:0000:0000:0000:0000:ffff:0a00:0002"
LOCAL = "fe80:0000:0000:0000:0000:0000:0000:0001"
NONE = "0000:0000:0000:0000:0000:0000:0000:0000"


class Sysfs:
    """A tree under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def hca(self, name: str, port: int = 1, state: str = "4: ACTIVE", link: str = "5: LinkUp") -> None:
        place = f"sys/class/infiniband/{name}/ports/{port}"
        self.write(f"{place}/state", state)
        self.write(f"{place}/phys_state", link)
        self.write(f"{place}/link_layer", "Ethernet")

    def gid(self, name: str, index: int, gid: str, ifname: str, port: int = 1) -> None:
        place = f"sys/class/infiniband/{name}/ports/{port}"
        self.write(f"{place}/gids/{index}", gid)
        self.write(f"{place}/gid_attrs/types/{index}", "RoCE v2")
        self.write(f"{place}/gid_attrs/ndevs/{index}", ifname)

    def verbs(self, name: str, number: int = 0, *, openable: bool = True) -> None:
        self.write(f"sys/class/infiniband_verbs/uverbs{number}/ibdev", name)
        if openable:
            self.write(f"dev/infiniband/uverbs{number}")

    def interface(self, ifname: str, hca: str | None = None, dev_port: int = 0) -> None:
        self.write(f"sys/class/net/{ifname}/dev_port", str(dev_port))
        if hca:
            (self.root / f"sys/class/net/{ifname}/device/infiniband/{hca}").mkdir(parents=True)
