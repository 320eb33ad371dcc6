"""Triton's log settings over a real channel, and what they do to the log."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import AdministrationSettings, ModelSettings
from polyglot_inference.telemetry.logs import LogControl, LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve, Serving

FULL = AdministrationSettings(mode="Full")
Value = pb.LogSettingsRequest.SettingValue
UNCHANGED: dict[str, Any] = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


async def change(serving: Serving, **settings: Value) -> dict[str, Any]:
    answer = await serving.stub.LogSettings(pb.LogSettingsRequest(settings=settings))
    return {
        key: getattr(setting, setting.WhichOneof("parameter_choice") or "") for key, setting in answer.settings.items()
    }


async def test_settings_are_read_and_changed(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, administration=FULL) as serving:
        assert await change(serving) == UNCHANGED
        changed = await change(
            serving,
            log_verbose_level=Value(uint32_param=2),
            log_info=Value(bool_param=False),
            log_format=Value(string_param="ISO8601"),
            log_file=Value(string_param=""),
        )
        assert changed == {**UNCHANGED, "log_verbose_level": 2, "log_info": False, "log_format": "ISO8601"}
        assert await change(serving) == changed


@pytest.mark.parametrize(
    ("settings", "status", "complaint"),
    [
        ({"log_file": Value(string_param="/tmp/x")}, "UNIMPLEMENTED", "log_file '/tmp/x' is not supported"),
        ({"log_format": Value(string_param="XML")}, "INVALID_ARGUMENT", "log_format 'XML' must be one of default"),
        ({"log_info": Value(string_param="yes")}, "INVALID_ARGUMENT", "'log_info' must be sent as bool_param"),
        ({"log_info": Value()}, "INVALID_ARGUMENT", "'log_info' must be sent as bool_param, not as nothing"),
        ({"log_colour": Value(string_param="red")}, "INVALID_ARGUMENT", "log setting 'log_colour' is unknown"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name_and_changes_nothing(
    serve: Serve, identity: ModelSettings, settings: dict[str, Value], status: str, complaint: str
) -> None:
    async with serve(identity, administration=FULL) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(serving, log_verbose_level=Value(uint32_param=1), **settings)
        assert caught.value.code().name == status
        assert complaint in str(caught.value.details())
        assert await change(serving) == UNCHANGED


async def test_a_read_only_server_keeps_its_log_settings(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(serving, log_verbose_level=Value(uint32_param=1))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await change(serving) == UNCHANGED


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, LogControl, io.StringIO]]:
    stream, logger = io.StringIO(), logging.getLogger("a log of its own")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, LogControl(logger, handler, LogSettings.of_level("INFO")), stream
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("settings", "logged"),
    [
        (LogSettings.of_level("DEBUG"), ["DEBUG", "INFO", "WARNING", "ERROR"]),
        (LogSettings.of_level("INFO"), ["INFO", "WARNING", "ERROR"]),
        (LogSettings.of_level("WARNING"), ["WARNING", "ERROR"]),
        (LogSettings.of_level("ERROR"), ["ERROR"]),
        (LogSettings(verbose_level=1, info=False, warning=True), ["DEBUG", "WARNING", "ERROR"]),
        (LogSettings(verbose_level=0, info=True, warning=False, error=False), ["INFO"]),
        (LogSettings(verbose_level=0, info=False, warning=False, error=False), []),
    ],
)
def test_a_severity_is_logged_where_its_setting_says_so(
    log: tuple[logging.Logger, LogControl, io.StringIO], settings: LogSettings, logged: list[str]
) -> None:
    logger, control, stream = log
    control.change(settings)
    for level in ("DEBUG", "INFO", "WARNING", "ERROR"):
        logger.log(logging.getLevelNamesMapping()[level], "said")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == logged


def test_the_format_iso8601_is_lines_for_people(log: tuple[logging.Logger, LogControl, io.StringIO]) -> None:
    logger, control, stream = log
    control.change(LogSettings(verbose_level=0, info=True, warning=True, format="ISO8601"))
    logger.info("Loaded %s", "digits", extra={"seconds": 0.25})
    try:
        int("not a number")
    except ValueError:
        logger.exception("Failed")
    first, second, *stack = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 I \d+ a log of its own] Loaded digits seconds=0\.25", first
    )
    assert " E " in second
    assert stack[-1] == "ValueError: invalid literal for int() with base 10: 'not a number'"
