"""JSON lines."""

from __future__ import annotations

import json
import logging
from typing import Any

from opentelemetry import trace

from polyglot_inference.telemetry.logs import JsonFormatter


def record(message: str, *args: object, **attributes: Any) -> logging.LogRecord:
    made = logging.getLogger("a.logger").makeRecord("a.logger", logging.INFO, "file.py", 1, message, args, None)
    vars(made).update(attributes)
    return made


def test_a_line_has_time_level_logger_message_and_extra_fields() -> None:
    line = json.loads(JsonFormatter().format(record("Loaded %s", "digits", model="digits", created=0.25)))
    assert line == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "INFO",
        "logger": "a.logger",
        "message": "Loaded digits",
        "model": "digits",
    }


def test_a_line_has_the_ids_of_the_current_span() -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=True))
    with trace.use_span(span):
        line = json.loads(JsonFormatter().format(record("within")))
    assert line["trace_id"] == "00000000000000000000000000000abc"
    assert line["span_id"] == "0000000000000def"


def test_an_error_is_one_line_with_its_stack() -> None:
    error = ValueError("two\nlines")
    text = JsonFormatter().format(record("Failed", exc_info=(ValueError, error, None)))
    assert "\n" not in text
    line = json.loads(text)
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["message"] == "two\nlines"
    assert "ValueError: two" in line["error"]["stack"]
