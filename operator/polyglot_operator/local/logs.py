"""The two programs write JSON for a collector; a person at a terminal reads a line of text."""

from __future__ import annotations

import json
from typing import Any, Final

# slog's names and Python's for the same things; they stand in front of the line.
_LEADING: Final = {"time", "level", "msg", "message", "logger"}
_WIDTH: Final = max(map(len, ("inference", "gateway")))


def readable(program: str, line: str) -> str:
    """Return a line of a program's log as `program  time level  message key=value …`; other text is kept as it is."""
    return "\n".join(f"{program:{_WIDTH}}  {text}" for text in _text(line).splitlines() or [""])


def failure(line: str) -> str | None:
    """Return the message of a line at level ERROR, or one that is no JSON at all; None for any other."""
    record = _record(line)
    if record is None:
        return line
    return str(record.get("msg", record.get("message", ""))) if record.get("level") == "ERROR" else None


def _text(line: str) -> str:
    record = _record(line)
    if record is None:
        return line
    clock = str(record.get("time", ""))[11:19]
    message = record.get("msg", record.get("message", ""))
    stack = ""
    if isinstance(error := record.get("error"), dict) and "stack" in error:
        stack = "\n" + str(record.pop("error")["stack"])
    rest = " ".join(f"{key}={_word(value)}" for key, value in record.items() if key not in _LEADING)
    return f"{clock} {record.get('level', ''):7} {message}{'  ' if rest else ''}{rest}{stack}"


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _word(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)
