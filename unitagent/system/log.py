"""The agent's log on stderr: sentences for a person, or JSON for a collector.

The invariant: neither logging nor shutting down ever blocks. A thread writes; when the reader of our stderr
is stuck, a bounded number of lines waits and the newest are dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import select
import sys
import time
from logging.handlers import QueueHandler, QueueListener

from unitagent.system.safe_output import escape_json, escape_line, escape_lines

NAME = "unitagent"
FIELDS = "fields"  # of a record: what programs read of its line, besides the sentence
_WAITING_LINES = 10_000
_LAST_LINES = 1.0  # seconds


class LogContext:
    """The origin of each line; the agent keeps it up to date."""

    def __init__(self, unit: str, rank: int | None = None) -> None:
        self.unit = unit
        self.rank = rank
        self.generation = 0


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z unitagent[unit/0 g3] WARNING sentence``."""

    def __init__(self, where: LogContext) -> None:
        super().__init__()
        self._where = where

    def format(self, record: logging.LogRecord) -> str:
        """Put one record on one line (a traceback, at debug level only, follows on its own lines)."""
        where = self._where
        rank = "?" if where.rank is None else where.rank
        head = f"{_format_utc(record.created)} unitagent[{where.unit}/{rank} g{where.generation}]"
        text = f"{head} {record.levelname} {escape_line(record.getMessage())}"
        return f"{text}\n{escape_lines(self.formatException(record.exc_info))}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with fields for programs where the line has some."""

    def __init__(self, where: LogContext) -> None:
        super().__init__()
        self._where = where

    def format(self, record: logging.LogRecord) -> str:
        """Put one record on one line."""
        fields = {
            "time": _format_utc(record.created),
            "level": record.levelname.lower(),
            "unit": self._where.unit,
            "rank": self._where.rank,
            "generation": self._where.generation,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(fields, ensure_ascii=False))


def _format_utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"


class _DroppingHandler(QueueHandler):
    """Hands a finished line to the writing thread, or drops it."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format now, while the ``LogContext`` is what it was."""
        return logging.makeLogRecord({"msg": self.format(record)})

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop a line that does not fit: an unread log must not stop the agent."""


class LogWriter(QueueListener):
    """The thread that writes."""

    def close(self, limit: float = _LAST_LINES) -> bool:
        """Let the last lines out, which may take ``limit`` seconds.

        Returns whether stderr takes more. If it does not, the thread may be stuck in a write, and so would be
        whoever writes there now, the interpreter at its own end included.
        """
        until = time.monotonic() + limit
        with contextlib.suppress(queue.Full):
            self.enqueue_sentinel()
        if self._thread is not None:
            self._thread.join(limit)
            if self._thread.is_alive():
                return False
        return _is_writable(until - time.monotonic())


def _is_writable(within: float) -> bool:
    try:
        return bool(select.select((), (sys.stderr,), (), max(0.0, within))[1])
    except (OSError, ValueError):  # closed: then a write fails at once
        return True


def configure_logging(where: LogContext, log_format: str | None, level: str) -> LogWriter:
    """Send the package's log to stderr; without a format, text on a terminal and JSON elsewhere.

    Returns what must be closed at the end, so that the last lines come out.
    """
    chosen = log_format or ("text" if sys.stderr.isatty() else "json")
    handler = _DroppingHandler(queue.Queue(_WAITING_LINES))
    handler.setFormatter(TextFormatter(where) if chosen == "text" else JsonFormatter(where))
    logger = logging.getLogger(NAME)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    logging.lastResort = handler  # of the libraries' warnings, which would be written here and now
    writing = LogWriter(handler.queue, logging.StreamHandler(sys.stderr))
    writing.start()
    return writing
