"""A switch that loses and delays frames, for kernels without netem: ``impair.py SECONDS LOSS SEED PORT…``.

It forwards every frame between the ports that it is given, which belong to no bridge meanwhile. Frames that
come from the store pass unharmed, as if each host had netem on its own cards. They all keep the kernel's note
on unfinished checksums and segments (PACKET_VNET_HDR), so nothing is altered on the way.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_VNET_HDR, PACKET_MR_PROMISC, ETH_P_ALL = 263, 1, 15, 1, 3


def plug(port: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.bind((port, ETH_P_ALL))
    wanted = struct.pack("IHH8s", socket.if_nametoindex(port), PACKET_MR_PROMISC, 0, b"")
    end.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, wanted)
    return end


def main() -> None:
    delay, loss, chance = float(sys.argv[1]), float(sys.argv[2]), random.Random(int(sys.argv[3]))
    ends = {plug(port): port for port in sys.argv[4:]}
    waiting: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    print("ready", flush=True)  # noqa: T201 - the lab waits for it
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, [], [], pause)[0]:
            frame, sender = end.recvfrom(1 << 17)
            harmed = not ends[end].endswith("store")
            if sender[2] == socket.PACKET_OUTGOING or (harmed and chance.random() < loss):
                continue
            number += 1
            heapq.heappush(waiting, (time.monotonic() + delay * harmed, number, end, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, source, frame = heapq.heappop(waiting)
            for end in ends:
                if end is not source:
                    with contextlib.suppress(OSError):  # the port is down, or full: a frame is lost
                        end.send(frame)


main()
