"""``unitagent render``: from a service file to the manifest of an engine, and what that leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from unitagent.discovery import service_file
from unitagent.discovery.json_reader import Reader
from unitagent.discovery.service_file import ServiceFile
from unitagent.errors import ConfigurationError
from unitagent.legible import hand_over, warn
from unitagent.operator.render import compose, lws, swarm
from unitagent.operator.render.service import Service
from unitagent.operator.render.service_reader import GIVEN, list_other_storage, read_service
from unitagent.operator.render.unsupported import find_unsupported
from unitagent.operator.render.yaml_writer import format_documents
from unitagent.settings.variables import VARIABLES

ENGINES = {
    "compose": (compose.render_compose, compose.ABOUT),
    "swarm": (swarm.render_swarm, swarm.ABOUT),
    "lws": (lws.render_lws, lws.ABOUT),
}
CARRYING = ("compose", "lws")  # these can bring the agent into an image that has none
_OVERLAP = 60  # seconds of grace; source: moby#36111


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
        warn(f"warning: {warning}")
    hand_over(text)
    return 0


def render_manifest(engine: str, text: str, path: str, carrier: str | None = None) -> tuple[str, list[str]]:
    """Give the manifest of a service file's text, and the warnings.

    Raises:
        ConfigurationError: all problems found.

    """
    file = service_file.parse(text, path, VARIABLES)
    root = Reader("", json.loads(text.removeprefix("\ufeff")))
    service = read_service(root, file, carrier if engine in CARRYING else None)
    if root.problems:
        raise ConfigurationError(*(f"{path}: {problem}; correct the file" for problem in root.problems))
    make, about = ENGINES[engine]
    manifest = format_documents(
        make(service), f"{service.name}: made by `unitagent render {engine}`.\n{about}"
    )
    return manifest, list(_collect_warnings(engine, root, file, service))


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise ConfigurationError(f"{path}: {reason}; accepted is the path of a service file") from error


def _collect_warnings(engine: str, root: Reader, file: ServiceFile, service: Service) -> Iterator[str]:
    yield from file.warnings
    if (stated := root.object("metadata").text("name")) and stated != service.name:
        yield f"metadata.name={stated!r} is {service.name} in the manifest, where names are DNS labels"
    for name, said in file.values.items():
        if name in GIVEN and name in said.path:
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


def _list_stated_paths(root: Reader) -> Iterator[str]:
    """Yield the paths of what the file states, as deep as anybody asks; dotted keys count as objects."""
    yield from (key.partition(".")[0] for key in root.content)
    yield from (f"metadata.{key.partition('.')[0]}" for key in root.object("metadata").content)
    for container in root.objects("containers")[:1]:
        for key, value in container.content.items():
            yield f"{container.path}.{key}"
            if isinstance(value, dict):
                yield from (f"{container.path}.{key}.{inner}" for inner in value)
    yield from list_other_storage(root)
