"""What the processes of a gate report to the agent while they run: the modules that each still imports, and
the environment that the first one gives to its children.

They write into memory that they share with the agent: that takes no thread, descriptor or message, and what a
process wrote stays when it is killed. The gate's side runs under the engine's own Python, 3.9 to 3.14, with
nothing but the standard library (:mod:`warm_gate`).

The invariant: nothing that is read here is trusted. It belongs to the workload, which may overwrite it.
"""

# ruff: noqa: PTH118, PTH119, PTH120, UP006, UP035
# (each start waits for this file, so os in place of pathlib; Python 3.9)

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import threading
from types import ModuleType
from typing import Any, Dict, List

Environment = Dict[str, str]
Names = List[str]

ROLES = ("main", "children")
_SLOTS, _SLOT = 64, 1 << 16  # one of these bytes for each process; pages that nobody writes take no memory
_ENVIRONMENT = 1 << 18  # bytes for one environment, at the beginning
SIZE = _ENVIRONMENT + _SLOTS * _SLOT
_LENGTH, _HEADER = struct.Struct("<I"), struct.Struct("<IBI")  # pid, role, length
_READ_AND_WRITE, _SHARED = 3, 1
_LONGEST = 200  # characters of a module's name
_NEVER = frozenset({"__main__", "__mp_main__", "transformers_modules"})  # the user's, wherever they are


class Record:
    """The memory, as a process of the gate sees it."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory, and close its descriptor.

        Raises:
            OSError: it cannot be mapped.

        """
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        address = libc.mmap(
            None, SIZE, _READ_AND_WRITE, _SHARED, descriptor, 0
        )  # Python's keeps a descriptor
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "the record cannot be mapped")
        os.close(descriptor)
        self._memory = memoryview((ctypes.c_char * SIZE).from_address(address)).cast("B")

    def note_environment(self, environment: Dict[bytes, bytes]) -> None:
        """Note what a process gives to one that it spawns; the first one counts."""
        if _LENGTH.unpack_from(self._memory)[0]:
            return
        pairs = [(os.fsdecode(name), os.fsdecode(value)) for name, value in environment.items()]
        data = json.dumps(pairs).encode()
        if len(data) <= _ENVIRONMENT - _LENGTH.size:
            self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
            _LENGTH.pack_into(self._memory, 0, len(data))

    def follow_imports(self, role: int) -> None:
        """Note what this process imports from now on."""
        sys.meta_path.insert(0, ImportFollower(self, role))

    def claim_slot(self, role: int) -> memoryview:
        """Return the part of the memory that this process writes to; empty if there is none left.

        Two that claim one at the same moment spoil each other's names, which are then passed over.
        """
        for number in range(_SLOTS):
            begin = _ENVIRONMENT + number * _SLOT
            if _HEADER.unpack_from(self._memory, begin)[0] == 0:
                _HEADER.pack_into(self._memory, begin, os.getpid(), role, 0)
                return self._memory[begin : begin + _SLOT]
        return self._memory[:0]


class ImportFollower:
    """A finder on ``sys.meta_path`` that finds nothing; it is asked for each module that is imported."""

    def __init__(self, record: Record, role: int) -> None:
        self._record, self._role = record, role
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: Names = []
        self._slot: Any = None
        self._length = 0
        self._roots = find_shared_roots()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        """Note what has been imported since the last call, and remember this name."""
        if os.getpid() != self._pid or not self._lock.acquire(blocking=False):
            return
        try:
            pending, self._pending = self._pending, []
            self._pending = [one for one in pending if not self._note_if_done(one)]
            self._pending.append(name)
        except Exception:  # noqa: BLE001, S110  # an import must not fail because it is not noted
            pass
        finally:
            self._lock.release()

    def _note_if_done(self, name: str) -> bool:
        """Note a module that has been imported; return False while that goes on."""
        module = sys.modules.get(name)
        if not isinstance(
            module, ModuleType
        ):  # its import has failed, or it has made something else of itself
            return True
        spec = object.__getattribute__(module, "__dict__").get("__spec__")  # a lazy module must not load now
        if getattr(spec, "_initializing", False):
            return False
        if spec is not None and is_shared(name, spec.origin, self._roots):
            self._write(name)
        return True

    def _write(self, name: str) -> None:
        if self._slot is None:
            self._slot = self._record.claim_slot(self._role)
        data = name.encode() + b"\n"
        begin = _HEADER.size + self._length
        if len(name) > _LONGEST or begin + len(data) > len(self._slot):
            return
        self._slot[begin : begin + len(data)] = data
        self._length += len(data)
        _HEADER.pack_into(self._slot, 0, self._pid, self._role, self._length)


def find_shared_roots() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages."""
    installed = [one for one in sys.path if os.path.basename(one) in ("site-packages", "dist-packages")]
    return tuple(os.path.join(one, "") for one in [os.path.dirname(os.__file__), *installed])


def is_shared(name: str, origin: object, roots: tuple[str, ...]) -> bool:
    """Whether a module comes with Python or an installed package, and is not the user's own."""
    if name.partition(".")[0] in _NEVER or not isinstance(origin, str):
        return False
    return origin in ("built-in", "frozen") or origin.startswith(roots)


# The agent's side


def create_memory() -> int:
    """Return a descriptor of new memory for a record; its size is sealed.

    Raises:
        OSError: the kernel has none.

    """
    import fcntl  # noqa: PLC0415

    memory = os.memfd_create("unit-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, SIZE)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory


def read_imports(memory: int) -> Dict[str, Names]:
    """Return what the processes of each role have imported, in that order; names that make no sense are left
    out.
    """
    found: Dict[str, Dict[str, None]] = {role: {} for role in ROLES}
    for number in range(_SLOTS):
        begin = _ENVIRONMENT + number * _SLOT
        pid, role, length = _HEADER.unpack(os.pread(memory, _HEADER.size, begin))
        if not pid or role >= len(ROLES):
            continue
        room = _SLOT - _HEADER.size
        text = os.pread(memory, min(length, room), begin + _HEADER.size).decode("utf-8", "replace")
        names = (name for name in text.split("\n") if len(name) <= _LONGEST)
        found[ROLES[role]].update(dict.fromkeys(name for name in names if _is_name(name)))
    return {role: list(names) for role, names in found.items()}


def _is_name(name: str) -> bool:
    parts = name.split(".")
    return parts[0] not in _NEVER and all(map(str.isidentifier, parts))


def read_environment(memory: int) -> Environment:
    """Return the environment of the first process that was spawned; empty if there is none."""
    data = os.pread(memory, _ENVIRONMENT, 0)
    (length,) = _LENGTH.unpack_from(data)
    if not 0 < length <= _ENVIRONMENT - _LENGTH.size:
        return {}
    try:
        return {
            str(name): str(value) for name, value in json.loads(data[_LENGTH.size : _LENGTH.size + length])
        }
    except (ValueError, TypeError):
        return {}
