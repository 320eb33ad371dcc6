"""The log on stdout: JSON lines, or lines for people, each with the ids of the trace it belongs to."""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from opentelemetry import trace

# The attributes every record has; what is beyond them was given with `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which records are logged, and how: Triton's log settings.

    Parameters
    ----------
    verbose_level
        Above 0: records below INFO, too.
    info, warning, error
        Whether records of that severity are logged; `error` stands for those above it, too.
    format
        One of FORMATTERS.
    """

    verbose_level: int
    info: bool
    warning: bool
    error: bool = True
    format: str = "default"

    @classmethod
    def of_level(cls, level: str) -> "LogSettings":
        """Those that log a level and what is above it."""
        number = logging.getLevelNamesMapping()[level]
        return cls(int(number < logging.INFO), info=number <= logging.INFO, warning=number <= logging.WARNING)

    def admit(self, level: int) -> bool:
        """Whether records of a level are logged."""
        if level < logging.INFO:
            return self.verbose_level > 0
        if level < logging.WARNING:
            return self.info
        return self.warning if level < logging.ERROR else self.error

    @property
    def lowest_level(self) -> int:
        """The lowest level that is logged: what is below costs nothing."""
        levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        return next((level for level in levels if self.admit(level)), logging.CRITICAL + 1)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, `extra` fields, trace_id, span_id, error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = {
                "type": type(error).__name__,
                "message": str(error),
                "stack": self.formatException(record.exc_info),
            }
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Lines for people, as Triton's ISO8601: time, first letter of the level, process, logger, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value!r}" for key, value in _fields(record).items())
        head = f"{_time(record)} {record.levelname[0]} {record.process} {record.name}] {record.getMessage()}{fields}"
        return f"{head}\n{self.formatException(record.exc_info)}" if record.exc_info else head


FORMATTERS: Final[Mapping[str, logging.Formatter]] = {"default": JsonFormatter(), "ISO8601": TextFormatter()}
"""By Triton's names of formats; Triton's default is its own, and so is ours."""


class LogControl:
    """A log whose settings can be changed while it is written.

    Parameters
    ----------
    logger
        The root of the log.
    handler
        Where its records go.
    settings
        What is logged at first.
    """

    def __init__(self, logger: logging.Logger, handler: logging.Handler, settings: LogSettings) -> None:
        self._logger = logger
        self._handler = handler
        handler.addFilter(lambda record: self.settings.admit(record.levelno))
        self.settings = settings
        self.change(settings)

    def change(self, settings: LogSettings) -> None:
        """Log by other settings from now on."""
        self.settings = settings
        self._handler.setFormatter(FORMATTERS[settings.format])
        self._logger.setLevel(settings.lowest_level)


def configure_logging(level: str, stream: TextIO = sys.stdout) -> LogControl:
    """Send every record of the process at `level` or above to `stream`."""
    handler = logging.StreamHandler(stream)
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)
    return LogControl(logging.getLogger(), handler, LogSettings.of_level(level))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has beside its message: the fields given with `extra=`, and the trace it belongs to."""
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
        fields["span_id"] = trace.format_span_id(span.span_id)
    return fields
