"""The page at ``/``: one file that asks nobody but this agent.

The invariant: the browser is told the hashes of the page's own script and style and takes no others, so that
no value, whoever wrote it, can make the page do anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from unitagent.probes.response import HTML, Response, make_text_response

_DASHBOARD_FILE = Path(__file__).with_name("dashboard.html")
_SHOWS_ATTRIBUTE = 'data-shows="{}"'


def answer_dashboard(shows: str) -> Response:
    """Give the page, which shows the ``unit`` or the whole ``store``, or say that it is ``off``."""
    if shows == "off":
        return make_text_response(404, "there is no page here: UNIT_DASHBOARD=off")
    return _load_dashboard(shows)


@functools.cache
def _load_dashboard(shows: str) -> Response:
    """Read it when it is asked for the first time; most agents are never asked."""
    text = _DASHBOARD_FILE.read_text(encoding="utf-8")
    headers = (("Content-Security-Policy", _build_content_policy(text)), ("Referrer-Policy", "no-referrer"))
    return Response(
        200,
        text.replace(_SHOWS_ATTRIBUTE.format("unit"), _SHOWS_ATTRIBUTE.format(shows), 1).encode(),
        HTML,
        headers,
    )


def _build_content_policy(text: str) -> str:
    script, style = _hash_element(text, "script"), _hash_element(text, "style")
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def _hash_element(text: str, tag: str) -> str:
    (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
