"""Errors that are shown to users: one base class and a few subclasses, each with its exit code
(``unitagent/operator/README.md``).
"""

from __future__ import annotations

NOT_EXECUTABLE = 126  # as a shell exits with; ``core.exits.ExitCode`` has it among all others


class UnitAgentError(Exception):
    """Something a person has to know about; its text is shown after ``unitagent: error:``.

    Attributes:
        exit_code: what the process exits with when nobody handles it.

    """

    exit_code = 1


class ConfigurationError(UnitAgentError):
    """An option, variable or file says something impossible; lists every problem found at once."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RefusalError(ValueError):
    """A text is not accepted; ``str`` of it says why, and cites nothing that may be secret."""


class StoreError(UnitAgentError):
    """The store could not be reached, or refused us: ``what`` it did, and a ``remedy`` where one is known."""

    exit_code = 69

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what, self.remedy = what, remedy


class CommandError(UnitAgentError):
    """COMMAND cannot be run: not found (127) or not executable (126)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RebuildError(UnitAgentError):
    """Only the platform can help, by building this container anew."""

    exit_code = 75
