"""How NCCL and Gloo read the variables by which they choose network cards.

A user, or an image, may have set them for another machine; they win over what the agent would give.
Sources: NCCL's documentation of NCCL_SOCKET_IFNAME; c10d's lookup of GLOO_SOCKET_IFNAME.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

REMEDY = "unset {}, or set COMM_IFNAME to the card that is meant"


def leaving_out(given: Mapping[str, str], ifname: str) -> Iterator[tuple[str, str]]:
    """Yield each variable by which one of them would not use this card, with a sentence that says so."""
    for name, means, how in (
        ("NCCL_SOCKET_IFNAME", _nccl_means, ""),
        ("GLOO_SOCKET_IFNAME", _gloo_means, ", for Gloo takes whole names only"),
    ):
        if given.get(name) and not means(given[name], ifname):
            yield name, f"{name}={given[name]} leaves out the card {ifname}{how}"


def _nccl_means(text: str, ifname: str) -> bool:
    """Whether NCCL's list means a card: beginnings of names, after ``=`` whole ones, after ``^`` others."""
    others, listed = text.startswith("^"), text.removeprefix("^")
    names = listed.removeprefix("=").split(",")
    among = ifname in names if listed.startswith("=") else ifname.startswith(tuple(names))
    return among != others


def _gloo_means(text: str, ifname: str) -> bool:
    """Whether Gloo's list means this card: it knows whole names and nothing else."""
    return ifname in text.split(",")
