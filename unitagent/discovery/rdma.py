"""Find the RDMA device (HCA) of a network interface, from sysfs alone.

The invariant: nothing here needs a privilege or fails on an odd tree: what cannot be read is absent. A port
is usable only if it is up, has an address, and this container has the device's file.
Sources: Documentation/ABI/testing/sysfs-class-infiniband; nccl#1573: EINVAL on another namespace's entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_GID = frozenset("0:")


@dataclass(frozen=True, slots=True)
class Gid:
    """One entry of a port's GID table; ``kind`` is such as ``RoCE v2`` and ``ifname`` empty when unknown."""

    index: int
    gid: str
    kind: str
    ifname: str


@dataclass(frozen=True, slots=True)
class Hca:
    """A port of an RDMA device.

    Attributes:
        name: of the device, such as ``mlx5_0``.
        port: from 1.
        state: such as ``ACTIVE``.
        link_layer: ``InfiniBand`` or ``Ethernet``.
        gids: the entries of its GID table that are set.
        problems: why it cannot be used here; empty when it can.

    """

    name: str
    port: int
    state: str
    link_layer: str
    gids: tuple[Gid, ...]
    problems: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether this container can use it now."""
        return not self.problems

    @property
    def nccl(self) -> str:
        """What NCCL_IB_HCA has to be: with ``=`` NCCL takes this name only, not those that begin with it."""
        return f"={self.name}:{self.port}"


def find_hca(ifname: str, root: Path = Path("/")) -> Hca | None:
    """Find an interface's RDMA port, a usable one first; None when it has none.

    Args:
        ifname: the interface.
        root: where ``sys`` and ``dev`` are, for tests.

    """
    ports = [_read_port(root, name, port) for name, port in _ports_of(ifname, root)]
    return min(ports, key=lambda hca: len(hca.problems), default=None)


def _ports_of(ifname: str, root: Path) -> Iterator[tuple[str, int]]:
    """Yield the ports whose GID table names the interface, else those of the interface's own device.

    The table goes first: bonds, VLANs, macvlan and ipvlan interfaces have no device, and a device can have
    two ports.
    """
    listed = [
        (port.parent.parent.name, int(port.name))
        for port in _list_folder(root / "sys/class/infiniband", "*/ports/*")
        if port.name.isdecimal()
        and ifname in map(_read_attribute, _list_folder(port / "gid_attrs/ndevs", "*"))
    ]
    yield from listed
    interface = root / "sys/class/net" / ifname
    for device in [] if listed else _list_folder(interface / "device/infiniband", "*"):
        number = _read_attribute(interface / "dev_port")
        yield device.name, int(number) + 1 if number.isdecimal() else 1


def _read_port(root: Path, name: str, number: int) -> Hca:
    port = root / "sys/class/infiniband" / name / "ports" / str(number)
    state = _read_attribute(port / "state").partition(":")[2].strip()
    gids = tuple(_read_gids(port))
    problems = (
        None if state == "ACTIVE" else f"port state {state or 'unknown'}, not ACTIVE",
        None if _read_attribute(port / "phys_state").startswith("5:") else "no physical link",
        None if gids else "no GID: the port has no address",
        None if _has_device_file(root, name) else "no /dev/infiniband/uverbs device of it in this container",
    )
    link_layer = _read_attribute(port / "link_layer")
    return Hca(name, number, state, link_layer, gids, tuple(filter(None, problems)))


def _read_gids(port: Path) -> Iterator[Gid]:
    """Yield the entries that are set; those of another network namespace cannot be read and are skipped."""
    for entry in _list_folder(port / "gids", "*"):
        gid = _read_attribute(entry)
        if entry.name.isdecimal() and set(gid) - _NO_GID:
            about = port / "gid_attrs"
            kind, ifname = (
                _read_attribute(about / "types" / entry.name),
                _read_attribute(about / "ndevs" / entry.name),
            )
            yield Gid(int(entry.name), gid, kind, ifname)


def _has_device_file(root: Path, name: str) -> bool:
    return any(
        _read_attribute(verbs / "ibdev") == name and (root / "dev/infiniband" / verbs.name).exists()
        for verbs in _list_folder(root / "sys/class/infiniband_verbs", "uverbs*")
    )


def _read_attribute(path: Path) -> str:
    """Read an attribute, empty when the kernel does not tell it."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _list_folder(folder: Path, pattern: str) -> list[Path]:
    """List a folder in order of numbers and names; one that vanishes meanwhile is empty."""
    try:
        return sorted(folder.glob(pattern), key=lambda path: (len(str(path)), str(path)))
    except OSError:
        return []
