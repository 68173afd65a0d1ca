"""Probe answers: pure views of the state. Each check says in one line why it fails."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a probe."""

    name: str
    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status code and the conditions it follows from."""

    code: int
    checks: tuple[Check, ...]
