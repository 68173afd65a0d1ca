"""``unitagent render``: from a service file to the manifest of an engine, and what that leaves out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unitagent.discovery import service_file
from unitagent.discovery.json_reader import JsonReader
from unitagent.discovery.service_file import ServiceFile
from unitagent.errors import ConfigurationError, RefusalError
from unitagent.operator.render import compose, lws, swarm
from unitagent.operator.render.service_reader import read_mounts, list_other_storage
from unitagent.operator.render.service import GRACE_MARGIN, Service
from unitagent.operator.render.unsupported import find_unsupported
from unitagent.operator.render.yaml_writer import format_documents
from unitagent.settings.variables import VARIABLES
from unitagent.system.safe_output import print_verbatim, print_warning

ENGINES = {
    "compose": (compose.render_compose, compose.ABOUT),
    "swarm": (swarm.render_swarm, swarm.ABOUT),
    "lws": (lws.render_lws, lws.ABOUT),
}
CARRYING = ("compose", "lws")  # these can bring the agent into an image that has none
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}[KMGT]i?")
_MOST = 1000  # Units, cards and GiB; more is a mistake
_OVERLAP = 60  # seconds of grace; source: moby#36111
_LONGEST = 40  # characters of a name, so that the engines can add to it
_GIVEN = frozenset(
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
)  # each manifest gives an instance its place and its store


def print_manifest(engine: str, path: str, carrier: str | None = None) -> int:
    """Print the manifest on stdout and what it leaves out on stderr; 0.

    Args:
        engine: one of ``ENGINES``.
        path: of the service file.
        carrier: the image that brings the agent into instances of images that have none.

    Raises:
        ConfigurationError: the file cannot be read, or does not say what a manifest needs.

    """
    text, warnings = render_manifest(engine, _read_file(path), path, carrier)
    for warning in warnings:
        print_warning(f"warning: {warning}")
    print_verbatim(text)
    return 0


def render_manifest(engine: str, text: str, path: str, carrier: str | None = None) -> tuple[str, list[str]]:
    """Give the manifest of a service file's text, and the warnings.

    Raises:
        ConfigurationError: all problems found.

    """
    file = service_file.parse_service_file(text, path, VARIABLES)
    root = JsonReader("", json.loads(text.removeprefix("\ufeff")))
    service = read_service(root, file, carrier if engine in CARRYING else None)
    if root.problems:
        raise ConfigurationError(*(f"{path}: {problem}; correct the file" for problem in root.problems))
    make, about = ENGINES[engine]
    manifest = format_documents(make(service), f"{service.name}: made by `unitagent render {engine}`.\n{about}")
    return manifest, list(_collect_warnings(engine, root, file, service))


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise ConfigurationError(f"{path}: {reason}; accepted is the path of a service file") from error


def read_service(root: JsonReader, file: ServiceFile, carrier: str | None) -> Service:
    metadata, containers = root.read_object("metadata"), root.read_objects("containers")
    container = containers[0] if containers else JsonReader("containers[0]", {}, root.problems, root.unknown)
    settings, parsed = _parse_settings(root, file)
    image, rolling = container.read_text("image"), _find_rolling_strategy(root, metadata)
    if image is None:
        root.problems.append("containers[0].image missing: accepted is the name of an image")
    if not file.command:
        root.problems.append("containers[0].script missing: accepted is the workload's command line")
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
        gpu=metadata.read_integer("gpu", 0, _MOST) or 0,
        cpu=metadata.read_number("cpu"),
        memory=metadata.read_integer("memory", 1, 10**9),
        disk=_read_matching(metadata, "disk", _QUANTITY, "a quantity such as 30Gi"),
        mounts=read_mounts(root),
        shm=metadata.read_integer("shm_size", 0, _MOST),
        surge=_read_portion(rolling, "max_surge"),
        unavailable=_read_portion(rolling, "max_unavailable"),
    )


def _parse_settings(root: JsonReader, file: ServiceFile) -> tuple[dict[str, str], dict[str, Any]]:
    """Give the agent's variables that go into the manifest, and all of them parsed."""
    parsed = {}
    for name, stated in file.values.items():
        variable = VARIABLES[name]
        try:
            parsed[name] = variable.kind.parse(stated.text)
        except ValueError as error:
            shown, accepted = variable.mask_value(stated.text), variable.kind.accepted
            reason = f"{error}; " if isinstance(error, RefusalError) else ""
            root.problems.append(f"{stated.path}={shown!r}: {reason}accepted is {accepted}")
    kept = {n: stated.text for n, stated in file.values.items() if n not in _GIVEN}
    return kept, parsed


def _read_units(metadata: JsonReader) -> int:
    units = metadata.read_integer("instance", 0, _MOST)
    return 1 if units is None else units


def _make_label(name: str | None) -> str:
    """Make a DNS label of a name, as all engines take it."""
    label = re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-")[:_LONGEST].strip("-")
    return label if re.match(r"[a-z]", label) else f"inference-{label}".strip("-")


def _find_rolling_strategy(root: JsonReader, metadata: JsonReader) -> JsonReader:
    """Find the strategy, which stands at three places in Alibaba's pages."""
    found: dict[str, Any] = {}
    for place in (root, metadata):
        found |= place.read_object("rolling_strategy").content
        for key, value in place.content.items():
            first, _, second = key.partition(".")
            if first == "rolling_strategy" and second:
                found[second] = value
    return JsonReader("rolling_strategy", found, root.problems, root.unknown)


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
        rolling.add_problem(key, f"a whole number from 0 to {_MOST}, or a percentage")
        return None
    return rolling.read_integer(key, 0, _MOST)


def _collect_warnings(engine: str, root: JsonReader, file: ServiceFile, service: Service) -> Iterator[str]:
    yield from file.warnings
    if (stated := root.read_object("metadata").read_text("name")) and stated != service.name:
        yield f"metadata.name={stated!r} is {service.name} in the manifest, where names are DNS labels"
    for name, said in file.values.items():
        if name in _GIVEN and name in said.path:
            yield f"{said.path} is not in the manifest, which gives each instance its rank and its store"
    yield from _find_unused_checks(file)
    if engine == "compose":
        yield from compose.warn_of_one_machine(service)
    if engine == "swarm" and service.grace > _OVERLAP:
        yield (
            f"stop_grace_period={service.grace}s: past {_OVERLAP} s Swarm starts the next task beside the "
            "one that ends; it waits until the rank is free"
        )
    if not service.carrier:
        how = "docker/Dockerfile, BASE_IMAGE" + ("; or --agent-image" if engine in CARRYING else "")
        yield f"containers[0].image={service.image!r} has to have unitagent in it ({how})"
    yield from find_unsupported(engine, dict.fromkeys(_list_stated_paths(root)))


def _find_unused_checks(file: ServiceFile) -> Iterator[str]:
    asked = [
        kind for kind in ("liveness_check", "health_check") if kind in file.checks and file.checks[kind].url
    ]
    yield from (
        f"containers[0].{kind} is not in the manifest: the agent asks {asked[0]} alone" for kind in asked[1:]
    )
    if "startup_check" in file.checks and "UNIT_STARTUP_SECONDS" not in file.values:
        yield (
            "containers[0].startup_check is not in the manifest: it needs a failure_threshold, and a "
            "liveness_check or health_check with http_get, by which the agent knows that startup is over"
        )


def _list_stated_paths(root: JsonReader) -> Iterator[str]:
    """Yield the paths of what the file states, as deep as anybody asks; dotted keys count as objects."""
    yield from (key.partition(".")[0] for key in root.content)
    yield from (f"metadata.{key.partition('.')[0]}" for key in root.read_object("metadata").content)
    for container in root.read_objects("containers")[:1]:
        for key, value in container.content.items():
            yield f"{container.path}.{key}"
            if isinstance(value, dict):
                yield from (f"{container.path}.{key}.{inner}" for inner in value)
    yield from list_other_storage(root)
