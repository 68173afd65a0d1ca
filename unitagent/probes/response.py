"""What goes back to a client of the probe address."""

from __future__ import annotations

from dataclasses import dataclass

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """A code and a body; the server adds the headers that all responses share."""

    code: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def make_text_response(code: int, line: str, *headers: tuple[str, str]) -> Response:
    """Say it to a person."""
    return Response(code, f"{line}\n".encode(), headers=headers)
