"""The variables by which engines choose a network interface, or an address of it.

A user, or an image, may have set them for another machine; they override what the agent would set.
Sources: NCCL's documentation of NCCL_SOCKET_IFNAME; c10d's lookup of GLOO_SOCKET_IFNAME; vLLM's and
SGLang's ``get_ip``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

_REMEDY = "unset {}, or set COMM_IFNAME to the interface that is meant"
_OF_ADDRESSES = "unset {}, or set COMM_IFNAME or RANK_IP to the interface that is meant"
ADDRESSES = {"VLLM_HOST_IP": "vLLM", "SGLANG_HOST_IP": "SGLang"}
"""Variable -> the engine that takes its own address from it."""

# Kubernetes puts VLLM_PORT=tcp://10.0.0.1:80 into every pod next to a Service named "vllm"; engines expect
# a number.
SERVICE_LINKS = ("VLLM_PORT", "SGLANG_PORT")


def find_misleading_variables(environ: Mapping[str, str], ifname: str, ip: str) -> Iterator[tuple[str, str]]:
    """Yield each variable that selects another interface or address, as a sentence and a remedy.

    An unknown (empty) interface or address is not checked.
    """
    for name, problem in _find_excluding(environ, ifname) if ifname else ():
        yield problem, _REMEDY.format(name)
    for name, engine in ADDRESSES.items():
        if ip and environ.get(name) and not _is_same_ip(environ[name], ip):
            problem = f"{name}={environ[name]} is not this instance's address {ip}: {engine} would use it"
            yield problem, _OF_ADDRESSES.format(name)


def _is_same_ip(text: str, ip: str) -> bool:
    try:
        return ip_address(text.strip("[]")) == ip_address(ip)
    except ValueError:
        return False


def _find_excluding(environ: Mapping[str, str], ifname: str) -> Iterator[tuple[str, str]]:
    """Yield each variable that excludes this interface, with a sentence that says so."""
    for name, means, how in (
        ("NCCL_SOCKET_IFNAME", _nccl_includes, ""),
        ("GLOO_SOCKET_IFNAME", _gloo_includes, ", for Gloo takes whole names only"),
    ):
        if environ.get(name) and not means(environ[name], ifname):
            yield name, f"{name}={environ[name]} excludes the interface {ifname}{how}"


def _nccl_includes(text: str, ifname: str) -> bool:
    """Whether NCCL includes an interface: prefixes, after ``=`` whole names, after ``^`` exclusions."""
    others, listed = text.startswith("^"), text.removeprefix("^")
    names = listed.removeprefix("=").split(",")
    among = ifname in names if listed.startswith("=") else ifname.startswith(tuple(names))
    return among != others


def _gloo_includes(text: str, ifname: str) -> bool:
    """Whether Gloo's list means this interface: it knows whole names and nothing else."""
    return ifname in text.split(",")
