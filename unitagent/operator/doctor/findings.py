"""A finding: the result of one check in one sentence, with its remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from unitagent.system.safe_output import escape_line


class Severity(StrEnum):
    """How serious a finding is; ``fail`` means that an agent cannot work here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; ``remedy`` is empty if there is no problem."""

    check: str
    verdict: Severity
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """Make a finding without a problem."""
    return Finding(check, Severity.OK, detail)


def warn(check: str, detail: str, remedy: str) -> Finding:
    """Make a finding of something that may not work well."""
    return Finding(check, Severity.WARN, detail, remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """Make a finding of something that cannot work."""
    return Finding(check, Severity.FAIL, detail, remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if any check failed, else 0."""
    return int(any(finding.verdict is Severity.FAIL for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """Format the findings as one JSON object, with the worst verdict."""
    worst = max((finding.verdict for finding in findings), key=list(Severity).index, default=Severity.OK)
    return json.dumps({"verdict": worst, "checks": [asdict(finding) for finding in findings]}, indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """Format each finding as a line with its remedy below, and count them at the end."""
    lines = [line for finding in findings for line in _format_finding(finding)]
    counts = [
        f"{sum(finding.verdict is verdict for finding in findings)} {verdict}"
        for verdict in reversed(Severity)
    ]
    return "\n".join([*lines, ", ".join(counts)])


def _format_finding(finding: Finding) -> list[str]:
    line = f"{finding.verdict:<5} {finding.check:<9} {escape_line(finding.detail)}"
    return [line, f"{'':<16}-> {escape_line(finding.remedy)}"] if finding.remedy else [line]
