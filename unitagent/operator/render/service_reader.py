"""From a service file's content to the ``Service`` that the engines' manifests are made of.

The invariant: whatever is not taken into the ``Service`` keeps its path, so that it can be reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from unitagent.discovery.json_reader import JsonReader
from unitagent.discovery.service_file import ServiceFile
from unitagent.errors import RefusalError
from unitagent.operator.render.service import GRACE_MARGIN, Mount, Service
from unitagent.settings.variables import VARIABLES

_SERVER = re.compile(r"[A-Za-z0-9._:-]+")
_PATH = re.compile(r"/[^\s:,]*")
_MOUNT_KEYS = ("mount_path", "name")
# Each manifest sets these itself: an instance's placement and store.
GIVEN = frozenset(
    {
        "UNIT_ID",
        "UNIT_SIZE",
        "RANK_ID",
        "RANK_IP",
        "MASTER_ADDRESS",
        "UNIT_CONFIG",
        "UNIT_HTTP_ADDRESS",
        "UNIT_REDIS_URL",
        "UNIT_REDIS_URL_FILE",
        "UNIT_SECRET",
        "UNIT_SECRET_FILE",
    }
)
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}[KMGT]i?")
_MAX_COUNT = 1000  # Units, GPUs and GiB; more is a mistake
_MAX_NAME = 40  # characters of a name, so that engines can append to it


def read_mounts(root: JsonReader) -> tuple[Mount, ...]:
    """Read the NFS entries; invalid ones are recorded as problems."""
    mounts = (
        _read_mount(entry) for entry in root.read_objects("storage") if entry.content.get("nfs") is not None
    )
    return tuple(mount for mount in mounts if mount)


def list_other_storage(root: JsonReader) -> Iterator[str]:
    """Yield the paths of everything else in the entries."""
    for entry in root.read_objects("storage"):
        yield from (entry.format_path(key) for key in entry.content if key not in (*_MOUNT_KEYS, "nfs"))


def _read_mount(entry: JsonReader) -> Mount | None:
    nfs = entry.read_object("nfs")
    target = _read_mount_text(
        entry, "mount_path", _PATH, "an absolute path without spaces, colons and commas"
    )
    server = _read_mount_text(nfs, "server", _SERVER, "the name or address of a server")
    source = _read_mount_text(nfs, "path", _PATH, "an absolute path without spaces, colons and commas")
    read_only = nfs.read_flag("readOnly") or False
    return Mount(target, server, source, read_only) if target and server and source else None


def _read_mount_text(reader: JsonReader, key: str, pattern: re.Pattern[str], accepted: str) -> str | None:
    text = reader.read_text(key)
    if text is not None and pattern.fullmatch(text):
        return text
    if not isinstance(reader.content.get(key), str | None):
        return None  # its type has already been reported
    reader.add_problem(key, accepted)
    return None


def read_service(root: JsonReader, file: ServiceFile, carrier: str | None) -> Service:
    """Read what to run from a service file; problems are added to ``root.problems``."""
    metadata, containers = root.read_object("metadata"), root.read_objects("containers")
    container = containers[0] if containers else JsonReader("containers[0]", {}, root.problems, root.unknown)
    settings, parsed = _parse_settings(root, file)
    image, rolling = container.read_text("image"), _find_rolling_strategy(root, metadata)
    if image is None:
        root.problems.append("containers[0].image missing: must be the name of an image")
    if not file.command:
        root.problems.append("containers[0].script missing: must be the workload's command line")
    return Service(
        name=_make_label(metadata.read_text("name")),
        image=image or "",
        carrier=carrier,
        units=_read_units(metadata),
        size=parsed.get("UNIT_SIZE", 1),
        command=file.command,
        settings=settings,
        environment=file.environment,
        port=parsed.get("UNIT_TRAFFIC_PORT"),
        grace=math.ceil(parsed.get("UNIT_STOP_GRACE_SECONDS", 25)) + GRACE_MARGIN,
        gpu=metadata.read_integer("gpu", 0, _MAX_COUNT) or 0,
        cpu=metadata.read_number("cpu"),
        memory=metadata.read_integer("memory", 1, 10**9),
        disk=_read_matching(metadata, "disk", _QUANTITY, "a quantity such as 30Gi"),
        mounts=read_mounts(root),
        shm=metadata.read_integer("shm_size", 0, _MAX_COUNT),
        surge=_read_portion(rolling, "max_surge"),
        unavailable=_read_portion(rolling, "max_unavailable"),
    )


def _parse_settings(root: JsonReader, file: ServiceFile) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the agent's variables for the manifest as text, and all of them parsed."""
    parsed = {}
    for name, stated in file.values.items():
        variable = VARIABLES[name]
        try:
            parsed[name] = variable.kind.parse(stated.text)
        except ValueError as error:
            shown, accepted = variable.mask_value(stated.text), variable.kind.accepted
            reason = f" ({error})" if isinstance(error, RefusalError) else ""
            root.problems.append(f"{stated.path}={shown!r}: must be {accepted}{reason}")
    kept = {n: stated.text for n, stated in file.values.items() if n not in GIVEN}
    return kept, parsed


def _read_units(metadata: JsonReader) -> int:
    units = metadata.read_integer("instance", 0, _MAX_COUNT)
    return 1 if units is None else units


def _make_label(name: str | None) -> str:
    """Make a DNS label of a name, which all engines accept."""
    label = re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-")[:_MAX_NAME].strip("-")
    return label if re.match(r"[a-z]", label) else f"inference-{label}".strip("-")


def _find_rolling_strategy(root: JsonReader, metadata: JsonReader) -> JsonReader:
    """Find the strategy, for which Alibaba's documentation has three places."""
    strategy: dict[str, Any] = {}
    for place in (root, metadata):
        strategy |= place.read_object("rolling_strategy").content
        for key, value in place.content.items():
            first, _, second = key.partition(".")
            if first == "rolling_strategy" and second:
                strategy[second] = value
    return JsonReader("rolling_strategy", strategy, root.problems, root.unknown)


def _read_matching(reader: JsonReader, key: str, pattern: re.Pattern[str], accepted: str) -> str | None:
    text = reader.read_text(key)
    if text is None or pattern.fullmatch(text):
        return text
    reader.add_problem(key, accepted)
    return None


def _read_portion(rolling: JsonReader, key: str) -> int | str | None:
    value = rolling.content.get(key)
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]{1,3}%", value):
            return value
        rolling.add_problem(key, f"an integer from 0 to {_MAX_COUNT}, or a percentage")
        return None
    return rolling.read_integer(key, 0, _MAX_COUNT)
