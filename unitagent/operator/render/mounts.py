"""The storage of a service file that every engine can mount by itself: NFS.

The invariant: an entry is a ``Mount``, or its kind is named, so that what is left out can be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from unitagent.discovery.json_reader import JsonReader
from unitagent.operator.render.service import Mount

_SERVER = re.compile(r"[A-Za-z0-9._:-]+")
_PATH = re.compile(r"/[^\s:,]*")
_OF_EACH = ("mount_path", "name")


def read_mounts(root: JsonReader) -> tuple[Mount, ...]:
    """Read the entries that are NFS; what does not fit is noted as a problem."""
    found = (_read_mount(entry) for entry in root.read_objects("storage") if entry.content.get("nfs") is not None)
    return tuple(mount for mount in found if mount)


def list_other_storage(root: JsonReader) -> Iterator[str]:
    """Yield the paths of what the entries state beside that."""
    for entry in root.read_objects("storage"):
        yield from (entry.format_path(key) for key in entry.content if key not in (*_OF_EACH, "nfs"))


def _read_mount(entry: JsonReader) -> Mount | None:
    nfs = entry.read_object("nfs")
    target = _read_mount_text(entry, "mount_path", _PATH, "an absolute path without spaces, colons and commas")
    server = _read_mount_text(nfs, "server", _SERVER, "the name or address of a server")
    source = _read_mount_text(nfs, "path", _PATH, "an absolute path without spaces, colons and commas")
    read_only = nfs.read_flag("readOnly") or False
    return Mount(target, server, source, read_only) if target and server and source else None


def _read_mount_text(reader: JsonReader, key: str, pattern: re.Pattern[str], accepted: str) -> str | None:
    text = reader.read_text(key)
    if text is not None and pattern.fullmatch(text):
        return text
    if not isinstance(reader.content.get(key), str | None):
        return None  # its type has been refused already
    reader.add_problem(key, accepted)
    return None
