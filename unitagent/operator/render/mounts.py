"""The storage of a service file that every engine can mount by itself: NFS.

The invariant: an entry is a ``Mount``, or its kind is named, so that what is left out can be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from unitagent.discovery.json_reader import Reader
from unitagent.operator.render.service import Mount

_SERVER = re.compile(r"[A-Za-z0-9._:-]+")
_PATH = re.compile(r"/[^\s:,]*")
_OF_EACH = ("mount_path", "name")


def mounts(root: Reader) -> tuple[Mount, ...]:
    """Read the entries that are NFS; what does not fit is noted as a problem."""
    found = (_mount(entry) for entry in root.objects("storage") if entry.content.get("nfs") is not None)
    return tuple(mount for mount in found if mount)


def other_storage(root: Reader) -> Iterator[str]:
    """Yield the paths of what the entries state beside that."""
    for entry in root.objects("storage"):
        yield from (entry.where(key) for key in entry.content if key not in (*_OF_EACH, "nfs"))


def _mount(entry: Reader) -> Mount | None:
    nfs = entry.object("nfs")
    target = _matching(entry, "mount_path", _PATH, "an absolute path without spaces, colons and commas")
    server = _matching(nfs, "server", _SERVER, "the name or address of a server")
    source = _matching(nfs, "path", _PATH, "an absolute path without spaces, colons and commas")
    read_only = nfs.flag("readOnly") or False
    return Mount(target, server, source, read_only) if target and server and source else None


def _matching(reader: Reader, key: str, pattern: re.Pattern[str], accepted: str) -> str | None:
    text = reader.text(key)
    if text is not None and pattern.fullmatch(text):
        return text
    if not isinstance(reader.content.get(key), str | None):
        return None  # its type has been refused already
    reader.refuse(key, accepted)
    return None
