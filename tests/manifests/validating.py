"""Is a manifest what its engine accepts? The schemas that the engines' projects publish say so.

Kubernetes: the package ``kubernetes-validate``, which has the API of each version, with unknown fields
refused. LeaderWorkerSet and JobSet: the files in ``schemas/``, whose pod and job templates are those of the
same version of Kubernetes. Compose: the Compose Specification's own, from the package ``check-jsonschema``.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource

OLDEST = "1.29"  # that still starts a sidecar before the containers without a feature gate
NEWEST: str = utils.major_minor(utils.latest_version())
CUSTOM = {"LeaderWorkerSet": "leaderworkerset.json", "JobSet": "jobset.json"}


def problems(document: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes of that version, with its controllers, has against a document."""
    return sorted(
        f"{error.json_path}: {error.message}" for error in _validator(document, version).iter_errors(document)
    )


def compose_problems(document: dict[str, Any]) -> list[str]:
    return sorted(f"{error.json_path}: {error.message}" for error in _compose().iter_errors(document))


def _validator(document: dict[str, Any], version: str) -> Draft202012Validator:
    kind, api = document["kind"], document["apiVersion"]
    return _custom(CUSTOM[kind], version) if kind in CUSTOM else _core(kind, api, version)


@cache
def _core(kind: str, api: str, version: str) -> Draft202012Validator:
    group, _, number = api.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = utils.schema_contents(f"{_folder(version)}/{name}.json", version)
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _custom(name: str, version: str) -> Draft202012Validator:
    registry = _definitions(version)
    text = (Path(__file__).parent / "schemas" / name).read_text(encoding="utf-8")
    (definitions,) = registry
    schema = json.loads(text.replace('"kubernetes:', f'"{definitions}#/$defs/'))
    return Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Registry[Any]:
    contents = utils.schema_contents(f"{_folder(version)}/_definitions.json", version)
    resource = Resource.from_contents(contents)
    return resource @ Registry()


def _folder(version: str) -> str:
    found = next(known for known in utils.all_versions() if utils.major_minor(known) == version)
    return f"kubernetes-json-schema/v{found}-local-strict"


@cache
def _compose() -> Draft202012Validator:
    place = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return Draft202012Validator(json.loads(place.read_text(encoding="utf-8")))
