"""A second machine with the very addresses of a host, as two container bridges have them: the store can be
reached from there, and nothing that is sent between the hosts arrives.
"""

from __future__ import annotations

import itertools

from tests.network.cabling import Cabling
from tests.network.namespaces import Namespace

_numbers = itertools.count(1)


def make_twin(net: Cabling, host: int, prefix: int) -> Namespace:
    """A namespace whose chosen interface has the address of this host's.

    Args:
        net: the cables of the lab.
        host: whose address.
        prefix: of the network that the address claims; with 24 the peers are on an interface where nobody is,
            with 32 they are behind a router that does not know them.

    """
    twin, number = Namespace(), next(_numbers)
    cable, subnet = f"twin{number}", f"10.97.{number % 256}"
    twin.ip(
        "link set lo up",
        f"link add eth0 type veth peer name {cable} netns {net.store.path}",
        "link add eth1 type veth peer name nowhere",
        f"addr add {subnet}.2/30 dev eth0",
        f"addr add {net.ip(host)}/{prefix} dev eth1",
        *(f"link set {interface} up" for interface in ("eth0", "eth1", "nowhere")),
    )
    net.store.ip(f"addr add {subnet}.1/30 dev {cable}", f"link set {cable} up")
    twin.ip(f"route add default via {subnet}.1")
    return twin
