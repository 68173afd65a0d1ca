"""Run a command for which the kernel refuses a call: ``forbid.py CALL[:N=VALUE] ERRNO COMMAND…``.

A seccomp filter, as a container's profile is one. ``N`` is the number of an argument that has to have the
value; other calls of the same name are let through.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"prctl": 157, "fcntl": 72, "socket": 41, "memfd_create": 319},
    "aarch64": {"prctl": 167, "fcntl": 25, "socket": 198, "memfd_create": 279},
}
EVERYWHERE = {"pidfd_open": 434, "pidfd_send_signal": 424}
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>
REFUSE, ALLOW = 0x00050000, 0x7FFF0000  # <linux/seccomp.h>
ARGUMENTS = 16  # where they begin in struct seccomp_data, 8 bytes each
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2


def program(call: str, refusal: str) -> bytes:
    name, _, condition = call.partition(":")
    tests = [(0, (NUMBERS[platform.machine()] | EVERYWHERE)[name])]
    if condition:
        place, value = map(int, condition.split("="))
        tests.append((ARGUMENTS + 8 * place, value))
    steps = []
    for done, (offset, value) in enumerate(tests):
        rest = 2 * (len(tests) - done - 1)
        steps += [(LOAD, 0, 0, offset), (IF_EQUAL, 0, rest + 1, value)]
    steps += [(RETURN, 0, 0, REFUSE | getattr(errno, refusal)), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


code = program(*sys.argv[1:3])
steps = ctypes.create_string_buffer(code)
whole = struct.pack("@HP", len(code) // 8, ctypes.addressof(steps))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(SECCOMP, FILTER, whole, 0, 0):
    sys.exit(f"this kernel takes no filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - no shell is wanted
