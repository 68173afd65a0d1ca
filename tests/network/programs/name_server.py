"""A name server that knows one name and takes its time: ``name_server.py IP NAME ADDRESS SECONDS``."""

from __future__ import annotations

import socket
import struct
import sys
import threading

_HEADER, _TYPE_A = 12, 1
_ANSWERED = 0x8180  # a response, recursion available
_UNKNOWN = 3  # NXDOMAIN


def answer(question: bytes, known: bytes, address: str) -> bytes:
    """The answer of RFC 1035 to one question."""
    name = b""
    place = _HEADER
    while length := question[place]:
        name += question[place + 1 : place + 1 + length] + b"."
        place += length + 1
    (kind,) = struct.unpack(">H", question[place + 1 : place + 3])
    mine = name == known + b"."
    found = mine and kind == _TYPE_A
    flags = _ANSWERED | (0 if mine else _UNKNOWN)
    head = question[:2] + struct.pack(">HHHHH", flags, 1, int(found), 0, 0) + question[_HEADER : place + 5]
    told = b"\xc0\x0c" + struct.pack(">HHIH", _TYPE_A, 1, 1, 4) + socket.inet_aton(address)
    return head + told if found else head


def main() -> None:
    ip, known, address, seconds = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((ip, 53))
    while True:
        question, asker = server.recvfrom(512)
        reply = answer(question, known.encode(), address)
        threading.Timer(float(seconds), server.sendto, (reply, asker)).start()


main()
