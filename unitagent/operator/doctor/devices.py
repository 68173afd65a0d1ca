"""This machine's devices: RDMA, and whether the card's own can be used in here; GPUs, and who has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unitagent.operator.doctor.findings import Finding, ok, warn


@dataclass(frozen=True, slots=True)
class RdmaDevices:
    """What was found.

    Attributes:
        names: of all devices that the kernel shows.
        own: the port that belongs to our card, as a person reads it; empty for none.
        gids: its GID table, an entry each: index, kind and GID.
        problems: why it cannot be used; empty when it can.

    """

    names: Sequence[str]
    own: str = ""
    gids: Sequence[str] = ()
    problems: Sequence[str] = ()


def judge_rdma(devices: RdmaDevices, ifname: str, *, wanted: bool) -> Iterator[Finding]:
    """Judge them; a machine without RDMA, where nobody asked for it, has nothing to say."""
    without = "all traffic between ranks goes over TCP"
    table = f"; GIDs: {', '.join(devices.gids)}" if devices.gids else ""
    if devices.own and not devices.problems:
        yield ok("rdma", f"{devices.own} belongs to {ifname} and can be used{table}")
    elif devices.own:
        remedy = (
            "docker run --device=/dev/infiniband, or the RDMA device plugin in Kubernetes; check the link"
        )
        yield warn("rdma", f"{devices.own} belongs to {ifname}: {'; '.join(devices.problems)}{table}", remedy)
    elif wanted:
        seen = ", ".join(devices.names) or "none at all"
        said = f"UNIT_RDMA=auto, but no RDMA device belongs to {ifname} (there is {seen}): {without}"
        yield warn("rdma", said, "set COMM_IFNAME to the RDMA interface, or UNIT_RDMA=off")
    elif devices.names:
        yield ok("rdma", f"no device belongs to {ifname} (there is {', '.join(devices.names)}): {without}")


def judge_gpus(gpus: int, holders: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    """Judge who holds GPUs beside the workload of an agent; a machine without GPUs has nothing to say.

    Args:
        gpus: how many devices there are.
        holders: pid, name and device of each who can be seen to hold one.

    """
    if holders:
        told = ", ".join(f"{device} by process {pid} ({name})" for pid, name, device in holders)
        remedy = (
            "end them (`kill PID`), or give this container GPUs of its own: an engine wants all of the memory"
        )
        yield warn("gpus", f"held: {told}", remedy)
    elif gpus:
        yield ok("gpus", f"none of the {gpus} is held by a process that can be seen here and is no workload")
