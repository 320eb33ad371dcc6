"""Triton's log settings, as the server's own log can honour them; what it can't is refused by name.

Source: triton-inference-server/server, docs/protocol/extension_logging.md; names as in src/grpc/grpc_server.cc.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from polyglot_inference.errors import InvalidRequestError, UnsupportedError
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.logs import FORMATTERS, LogSettings

# By Triton's name: the field of LogSettings, and the kind of value.
_SETTINGS: Final[Mapping[str, tuple[str, str]]] = {
    "log_info": ("info", "bool_param"),
    "log_warning": ("warning", "bool_param"),
    "log_error": ("error", "bool_param"),
    "log_verbose_level": ("verbose_level", "uint32_param"),
    "log_format": ("format", "string_param"),
}
_FILE: Final = "log_file"

Values = Mapping[str, pb.LogSettingsRequest.SettingValue]


def log_settings(settings: LogSettings) -> pb.LogSettingsResponse:
    """All of Triton's settings."""
    values = {
        key: pb.LogSettingsResponse.SettingValue(**{kind: getattr(settings, field)})
        for key, (field, kind) in _SETTINGS.items()
    }
    return pb.LogSettingsResponse(settings={**values, _FILE: pb.LogSettingsResponse.SettingValue(string_param="")})


def changed_log_settings(settings: LogSettings, values: Values) -> LogSettings:
    """The settings after a request.

    Raises
    ------
    InvalidRequestError
        A setting is unknown, or its value is none that it can have.
    UnsupportedError
        It asks for a log file.
    """
    changed: dict[str, Any] = {}
    for key, value in values.items():
        kind = value.WhichOneof("parameter_choice")
        if key == _FILE and kind == "string_param":
            _require_no_file(value.string_param)
        elif key in _SETTINGS and kind == _SETTINGS[key][1]:
            changed[_SETTINGS[key][0]] = getattr(value, kind)
        elif key in _SETTINGS or key == _FILE:
            wanted = _SETTINGS.get(key, ("", "string_param"))[1]
            raise InvalidRequestError(f"log setting {key!r} must be sent as {wanted}, not as {kind or 'nothing'}")
        else:
            raise InvalidRequestError(f"log setting {key!r} is unknown; known are {', '.join((*_SETTINGS, _FILE))}")
    if changed.get("format", settings.format) not in FORMATTERS:
        raise InvalidRequestError(f"log_format {changed['format']!r} must be one of {', '.join(FORMATTERS)}")
    return dataclasses.replace(settings, **changed)


def _require_no_file(path: str) -> None:
    if path:
        raise UnsupportedError(
            f"log_file {path!r} is not supported: the log goes to stdout, where the container's runtime collects it"
        )
