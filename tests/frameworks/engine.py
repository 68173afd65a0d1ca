"""What a container engine gives and the lab does not: names, and a folder for scratch files of one's own.

A host's own name stands in /etc/hosts with its first card's address. That address is the trap: the first card
is not the one that the Unit talks over. No name server is reachable from a lab, and frameworks look addresses
up by the dozen; one that refuses at once stands in for it.
"""

from __future__ import annotations

from tests.network.lab import Lab

SCRATCH = "/mnt"
_MOUNT = """\
mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && mount -t tmpfs none "$3" || exit
shift 3
exec "$@"
"""


def contained(lab: Lab, host: int, words: list[str]) -> list[str]:
    """The command line ``words`` in a container of this host, which has a mount namespace of its own."""
    hosts = lab.folder / f"hosts{host}"
    hosts.write_text(f"127.0.0.1 localhost\n{lab.net.ip(host, 'front')} host{host}\n")
    resolver = lab.folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    return ["sh", "-c", _MOUNT, "sh", str(hosts), str(resolver), SCRATCH, *words]
