"""What a platform tells an instance, and how its variables are read without guessing.

The invariant: an incomplete set of variables is an error that names the missing one, and a value that
cannot be a rank or a size is an error that names the variable; no value is ever made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from unitagent.errors import ConfigurationError
from unitagent.system.limits import MAX_UNIT_SIZE

Environ = Mapping[str, str]

_LONGEST_NAME = 128


class Platform(Struct, frozen=True):
    """What one platform tells.

    Attributes:
        name: of the platform, as in ``docker/README.md``.
        rank: this instance's rank, if known.
        size: instances in the Unit, if known.
        leader: DNS name or IP of rank 0, if known.
        unit: a name for the Unit that all its instances derive alike and no other Unit of the same namespace
            does, if there is one; namespaces are not in it.
        notes: the variables used, and what a person should know, for ``unitagent env`` and the log.
        advice: how a person could let it tell more.

    """

    name: str
    rank: int | None = None
    size: int | None = None
    leader: str | None = None
    unit: str | None = None
    notes: tuple[str, ...] = ()
    advice: str = ""


class PlatformRule(Struct, frozen=True):
    """How one platform is recognised and read.

    Attributes:
        marks: it is this platform when one of these is set.
        needs: all of these must then be set.
        read: gives what it tells; raises ``ConfigurationError``; gives None when it is another platform.

    """

    name: str
    marks: tuple[str, ...]
    needs: tuple[str, ...]
    read: Callable[[Environ, str], Platform | None]


def apply_rule(rule: PlatformRule, environ: Environ, hostname: str) -> Platform | None:
    """Read one platform, None when this is another one.

    Raises:
        ConfigurationError: it is this platform, and a variable is missing or impossible.

    """
    present = [mark for mark in rule.marks if environ.get(mark)]
    if not present:
        return None
    missing = [name for name in rule.needs if not environ.get(name)]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} missing: {present[0]}={environ[present[0]]!r} says that this is "
            f"{rule.name}, which sets {', '.join(rule.needs)}; "
            "restore what is missing, or set RANK_ID and UNIT_SIZE"
        )
    return rule.read(environ, hostname)


def read_rank(environ: Environ, variable: str) -> int:
    """Read a rank."""
    return _read_number(environ, variable, 0, MAX_UNIT_SIZE - 1)


def read_size(environ: Environ, variable: str) -> int:
    """Read a size."""
    return _read_number(environ, variable, 1, MAX_UNIT_SIZE)


def _read_number(environ: Environ, variable: str, least: int, most: int) -> int:
    text = environ[variable].strip()
    if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) + 8 and least <= int(text) <= most:
        return int(text)
    raise ConfigurationError(
        f"{variable}={environ[variable]!r} (set by the platform): must be an integer from {least} to "
        f"{most}; correct it, or set RANK_ID and UNIT_SIZE"
    )


def make_unit_name(text: str | None) -> str | None:
    """Make a Unit's name of a platform's: other characters become dashes, a long one keeps its end."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[-_LONGEST_NAME:] if text else None


def get_first_label(address: str) -> str:
    """Return a DNS name's first label: under Kubernetes that is a pod's name."""
    return address.partition(".")[0]


def split_sibling(hostname: str, index: str) -> tuple[str, str] | None:
    """Split ``<base>-<index>[.<domain>]`` into ``<base>`` and the full name of the one with index 0.

    The second part is empty when the hostname has no domain, since the bare name of another pod is in no DNS.
    """
    label, _, domain = hostname.partition(".")
    base, dash, last = label.rpartition("-")
    if not (base and dash) or last != index:
        return None
    return base, f"{base}-0.{domain}" if domain else ""
