"""A finding: one verdict on one thing, in one sentence, with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from unitagent.legible import line


class Severity(StrEnum):
    """How it stands; ``fail`` means that an agent could not do its work here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict; ``remedy`` is empty when all is well."""

    check: str
    verdict: Severity
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Severity.OK, detail)


def warn(check: str, detail: str, remedy: str) -> Finding:
    """It works, or may work, and somebody should look at it."""
    return Finding(check, Severity.WARN, detail, remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """It will not work."""
    return Finding(check, Severity.FAIL, detail, remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when anything failed."""
    return int(any(finding.verdict is Severity.FAIL for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """One object: the worst verdict, and all findings."""
    worst = max((finding.verdict for finding in findings), key=list(Severity).index, default=Severity.OK)
    return json.dumps({"verdict": worst, "checks": [asdict(finding) for finding in findings]}, indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each, remedies below, and a count at the end."""
    lines = [said for finding in findings for said in _format_finding(finding)]
    counts = [
        f"{sum(finding.verdict is verdict for finding in findings)} {verdict}"
        for verdict in reversed(Severity)
    ]
    return "\n".join([*lines, ", ".join(counts)])


def _format_finding(finding: Finding) -> list[str]:
    said = f"{finding.verdict:<5} {finding.check:<9} {line(finding.detail)}"
    return [said, f"{'':<16}-> {line(finding.remedy)}"] if finding.remedy else [said]
