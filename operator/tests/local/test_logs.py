"""JSON lines of two programs as a person reads them."""

import json

import pytest

from polyglot_operator.local import logs


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            '{"time":"2026-01-02T15:04:05.6Z","level":"INFO","msg":"Started","rest":"127.0.0.1:1","pods":[1, 2]}',
            "gateway    15:04:05 INFO    Started  rest=127.0.0.1:1 pods=[1, 2]",
        ),
        (
            '{"time":"2026-01-02T15:04:05.678+00:00","level":"WARNING","logger":"a.b","message":"Slow","why":"a b"}',
            'gateway    15:04:05 WARNING Slow  why="a b"',
        ),
        ("panic: no JSON", "gateway    panic: no JSON"),
        ("17", "gateway    17"),
        ("", "gateway    "),
    ],
)
def test_a_line_names_its_program_and_reads_as_text(line: str, shown: str) -> None:
    assert logs.readable("gateway", line) == shown


def test_a_stack_follows_its_line() -> None:
    error = {"type": "ValueError", "message": "no", "stack": "Traceback\n  at x"}
    record = {"time": "2026-01-02T15:04:05Z", "level": "ERROR", "message": "Failed", "error": error}
    assert logs.readable("inference", json.dumps(record)).splitlines() == [
        "inference  15:04:05 ERROR   Failed",
        "inference  Traceback",
        "inference    at x",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"level": "ERROR", "message": "Cannot serve"}', "Cannot serve"),
        ('{"level": "INFO", "msg": "Started"}', None),
        ("gateway: no such file", "gateway: no such file"),
    ],
)
def test_errors_and_plain_text_tell_why_a_program_ended(line: str, message: str | None) -> None:
    assert logs.failure(line) == message
