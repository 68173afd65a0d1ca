"""The sources of settings: the texts that flags, environment, service file and platform have for the
variables.

The invariant: the only thing judged here is whether a source can be read. An empty text counts as unset.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitagent.discovery import platforms, service_file
from unitagent.errors import ConfigurationError
from unitagent.setting_parsers import suggest_word
from unitagent.settings.variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitagent.discovery.platform_rules import Platform
    from unitagent.discovery.service_file import ServiceFile

# What an agent sets for its workload, which may itself run ``unitagent probe`` or ``status``.
_GIVEN_TO_WORKLOADS = frozenset(
    {"UNIT_GENERATION", "UNIT_RANK_IPS", "UNIT_AGENT", "UNIT_KEEPER_PORT", "UNIT_KEEPER_GENERATION"}
)
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_LINK_NAME = re.compile(r"UNIT\w*_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(TCP|UDP|SCTP)\w*)")


@dataclass(frozen=True, slots=True)
class SourcedText:
    """A text for a variable, and its source."""

    text: str
    source: str


Layer = dict[str, SourcedText]


def make_flag_layer(flags: Mapping[str, str]) -> Layer:
    """Make the layer of the command line, from what ``cli_options.collect_flags`` returns."""
    return {
        name: SourcedText(text.strip(), f"flag {VARIABLES[name].flag}")
        for name, text in flags.items()
        if name in VARIABLES and text.strip()
    }


def make_environment_layer(environ: Mapping[str, str]) -> Layer:
    """Make the layer of the environment."""
    return {
        name: SourcedText(environ[name].strip(), "environment")
        for name in VARIABLES
        if environ.get(name, "").strip()
    }


def make_default_layer() -> Layer:
    """Make the layer of the table's defaults."""
    return {v.name: SourcedText(v.default, "default") for v in VARIABLES.values() if v.default}


def read_service_file(path: str, read_file: Callable[[str], str]) -> ServiceFile:
    """Read the service file.

    Raises:
        ConfigurationError: the file is unreadable or invalid.

    """
    return service_file.parse_service_file(
        read_nonempty_file("UNIT_CONFIG", path, read_file), path, VARIABLES.keys()
    )


def make_service_file_layer(file: ServiceFile, path: str) -> Layer:
    """Make the layer of a service file."""
    return {
        name: SourcedText(text.text, f"service file {path}: {text.path}")
        for name, text in file.values.items()
    }


def read_nonempty_file(variable: str, path: str, read_file: Callable[[str], str]) -> str:
    """Read the file that a variable names.

    Raises:
        ConfigurationError: the file is unreadable or empty.

    """
    try:
        text = read_file(path)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or an invalid path
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(
            f"{variable}={path!r}: must be the path of a readable file ({reason}); mount it or "
            "correct the path"
        ) from error
    if not text.strip():
        raise ConfigurationError(f"{variable}={path!r}: the file is empty; write the value into it")
    return text


def find_platform(
    environ: Mapping[str, str], hostname: str, read_file: Callable[[str], str]
) -> Platform | None:
    """Detect the platform. The host's name is the one in ``/etc/hosts``, domain included; none if that is the
    name of a Kubernetes node.

    Raises:
        ConfigurationError: a platform's variables are incomplete or impossible.

    """
    hosts = ""
    with suppress(OSError, ValueError):
        hosts = read_file("/etc/hosts")
    if platforms.is_node_name(environ, hostname, hosts):
        hostname = ""
    elif "." not in hostname:
        hostname = platforms.find_full_name(hostname, hosts)
    return platforms.detect_platform(environ, hostname, in_cluster=_is_in_cluster(read_file))


def _is_in_cluster(read_file: Callable[[str], str]) -> bool:
    """Whether a pod's identity is mounted here: its namespace is mounted with its token."""
    with suppress(OSError, ValueError):
        return bool(read_file("/var/run/secrets/kubernetes.io/serviceaccount/namespace"))
    return False


def make_platform_layer(platform: Platform) -> Layer:
    """Make the layer of a platform."""
    texts = {
        "UNIT_ID": platform.unit,
        "UNIT_SIZE": platform.size,
        "RANK_ID": platform.rank,
        "MASTER_ADDRESS": platform.leader,
    }
    source = f"platform {platform.name}" + "".join(f" ({note})" for note in platform.notes)
    return {name: SourcedText(str(value), source) for name, value in texts.items() if value is not None}


def find_service_links(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the ``UNIT_*`` variables that Kubernetes sets for a Service whose name begins with ``unit``."""
    for name, text in environ.items():
        if name.startswith("UNIT_") and _SERVICE_LINK.match(text.strip()):
            yield name


def find_unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the ``UNIT_*`` variables that do not exist, most likely typing errors."""
    for name in sorted(environ):
        known = name in VARIABLES or name in _GIVEN_TO_WORKLOADS or _LINK_NAME.fullmatch(name)
        if name.startswith("UNIT_") and environ[name] and not known:
            yield name


def suggest_variable(name: str) -> str:
    """Suggest the variable that a mistyped one resembles, if one does."""
    return suggest_word(name, VARIABLES, 0.8)
