"""A file system that never answers: who touches it hangs in the kernel (state D), deaf even to SIGKILL.

FUSE, spoken just so far that the mount works. A request that has been read and is not answered holds its
caller until the connection is closed (fuse(4); linux/fuse.h).
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from pathlib import Path

_IN = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_OUT = struct.Struct("<IiQ")  # length, error, unique
_INIT = 26
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_DETACH = 2  # MNT_DETACH


class HangingFolder:
    """Mounted while open.

    Attributes:
        asked: somebody hangs in it.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        if self._libc.mount(b"hang", os.fsencode(folder), b"fuse", 0, options.encode()):
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "mount")
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._swallow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let everybody go; may be called twice."""
        if self._device < 0:
            return
        self._libc.umount2(os.fsencode(self.folder), _DETACH | 1)  # 1: MNT_FORCE aborts what is under way
        os.close(self._device)
        self._device = -1
        self._thread.join(10)

    def _swallow(self) -> None:
        device = self._device
        while True:
            try:
                request = os.read(device, 1 << 17)
            except OSError:  # ENODEV: unmounted
                return
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode == _INIT:
                answer = _INIT_OUT.pack(7, 31, 0, 0, 0, 0, 1 << 16, 0, 0, 0, 0)
                os.write(device, _OUT.pack(_OUT.size + len(answer), 0, unique) + answer)
            else:
                self.asked.set()
