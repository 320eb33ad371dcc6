"""Triton's trace settings, as the server's own tracer can honour them; what it can't is refused by name.

Source: triton-inference-server/server, docs/protocol/extension_trace.md and docs/user_guide/trace.md.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from polyglot_inference.errors import InvalidRequestError, UnsupportedError
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.sampling import UNLIMITED, Change, TraceSettings

OFF: Final = "OFF"
TIMESTAMPS: Final = "TIMESTAMPS"

# Settings that never change, and why.
_FIXED: Final[Mapping[str, tuple[str, str]]] = {
    "trace_mode": ("opentelemetry", "traces are OpenTelemetry's"),
    "trace_file": ("", "traces go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, not to a file"),
    "log_frequency": ("0", "traces go to a collector, not to numbered files"),
}
_LARGEST_NUMBER: Final = 2**31 - 1
# Python refuses to read numbers of many thousand digits.
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")

Values = Mapping[str, pb.TraceSettingRequest.SettingValue]


def trace_settings(settings: TraceSettings, *, exported: bool) -> pb.TraceSettingResponse:
    """All of Triton's settings.

    `trace_rate` is 0 where a call is traced only when its caller traces it; the level is OFF where traces go nowhere.
    """
    values = {
        "trace_level": TIMESTAMPS if settings.on and exported else OFF,
        "trace_rate": str(round(1 / settings.share)) if settings.share else "0",
        "trace_count": str(settings.count),
        **{key: value for key, (value, _) in _FIXED.items()},
    }
    return pb.TraceSettingResponse(
        settings={key: pb.TraceSettingResponse.SettingValue(value=[value]) for key, value in values.items()}
    )


def trace_change(values: Values) -> Change:
    """What a request changes; a setting without a value is one to be cleared.

    Raises
    ------
    InvalidRequestError
        A setting is unknown, or its value is none that it can have.
    UnsupportedError
        A setting is Triton's, and its value one that this server can't honour.
    """
    change: Change = {}
    for key, setting in values.items():
        value = list(setting.value)
        if key == "trace_level":
            change["on"] = _level(value) if value else None
        elif key == "trace_rate":
            change["share"] = _share(_number(key, value)) if value else None
        elif key == "trace_count":
            change["count"] = _number(key, value, least=UNLIMITED) if value else None
        else:
            _require_fixed(key, value)
    return change


def _level(value: Sequence[str]) -> bool:
    known = {OFF, TIMESTAMPS, "TENSORS"}
    unknown = [level for level in value if level not in known]
    if unknown or (OFF in value and len(value) > 1):
        raise InvalidRequestError(f"trace_level {', '.join(value)} must be {OFF} alone or {TIMESTAMPS}")
    if "TENSORS" in value:
        raise UnsupportedError(f"trace_level TENSORS is not supported: traces hold no tensors; use {TIMESTAMPS}")
    return value != [OFF]


def _share(rate: int) -> float:
    return 1 / rate if rate else 0.0


def _number(key: str, value: Sequence[str], least: int = 0) -> int:
    text = value[0] if len(value) == 1 else ""
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= _LARGEST_NUMBER:
        raise InvalidRequestError(f"{key} {', '.join(value)!r} must be one integer from {least} to {_LARGEST_NUMBER}")
    return int(text)


def _require_fixed(key: str, value: Sequence[str]) -> None:
    if key not in _FIXED:
        known = ", ".join(("trace_level", "trace_rate", "trace_count", *_FIXED))
        raise InvalidRequestError(f"trace setting {key!r} is unknown; known are {known}")
    fixed, reason = _FIXED[key]
    if value and list(value) != [fixed]:
        raise UnsupportedError(f"{key} cannot be changed: {reason}; it is {fixed!r}")
