"""Write addresses with their ports. A health check imports this every few seconds, so it imports nothing."""

from __future__ import annotations


def join_host_port(host: str, port: int) -> str:
    """Write an address with its port, IPv6 in brackets."""
    return f"{bracket_ipv6(host)}:{port}"


def bracket_ipv6(host: str) -> str:
    """Return an address as it is written before ``:PORT``; names and IPv4 addresses stay as they are."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
