"""Which names in a request's ``Host`` are answered, so that no web page reads what is for others.

The invariant: a page whose own name was made to lead here (DNS rebinding) says that name, and is refused; who
asks by an address, by ``localhost``, by a name of this host or Unit, or by none, is not.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from unitagent.probes.response import Response, make_text_response
from unitagent.system.safe_output import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterable

MISDIRECTED = 421
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")
_SHOWN = 100  # characters


class AllowedHosts:
    """The names that are answered.

    Args:
        names: without a port, in any case; one that begins with ``*.`` is of all names below.

    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        given = {_normalize_name(name) for name in names}
        self._names = {name for name in given if name and not name.startswith("*.")} | {"localhost"}
        self._below = tuple(name[1:] for name in given if name.startswith("*."))

    def refuse_host(self, host: bytes) -> Response | None:
        """Give the answer to a request that says this ``Host``, if it is to have no other."""
        text = host.decode("latin-1").strip()
        if not text or self._is_allowed(text):
            return None
        return make_text_response(
            MISDIRECTED,
            f"the Host {escape_line(text)[:_SHOWN]!r} is not a name of this agent; ask by its IP address, "
            "or set UNIT_HTTP_HOSTS to its other names (separated by commas; *.name stands for all "
            "names below one)",
        )

    def _is_allowed(self, text: str) -> bool:
        found = _HOST.fullmatch(text)
        name = _normalize_name(found[1]) if found else ""
        return name in self._names or name.endswith(self._below) or _is_address(name)


def parse_etc_hosts(etc_hosts: str) -> set[str]:
    """All names in the text of ``/etc/hosts``, which only who owns this machine writes."""
    words = (row.partition("#")[0].split()[1:] for row in etc_hosts.splitlines())
    return {name for row in words for name in row}


def _normalize_name(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True
