"""Which calls are traced: at first by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, then as callers change it.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from polyglot_inference.settings import SettingsError

MODEL: Final = "polyglot.model.name"
"""The attribute of spans that names their model."""
UNLIMITED: Final = -1

# By name: the share of new traces that is sampled, None for the one that OTEL_TRACES_SAMPLER_ARG says; whether the
# caller's decision counts more; whether anything is sampled at all.
_SAMPLERS: Final[Mapping[str, tuple[float | None, bool, bool]]] = {
    "always_on": (1.0, False, True),
    "always_off": (0.0, False, False),
    "traceidratio": (None, False, True),
    "parentbased_always_on": (1.0, True, True),
    "parentbased_always_off": (0.0, True, True),
    "parentbased_traceidratio": (None, True, True),
}


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What is traced.

    Parameters
    ----------
    on
        False: nothing, whatever callers decided.
    share
        Of the calls that bring no trace, from 0 to 1.
    count
        How many more calls; UNLIMITED for all.
    """

    on: bool
    share: float
    count: int = UNLIMITED


class Change(TypedDict, total=False):
    """New values of some settings; None: as if it had never been changed."""

    on: bool | None
    share: float | None
    count: int | None


class CallSampler(Sampler):
    """Samples by settings that can be changed while spans are made, as a whole and for single models.

    Parameters
    ----------
    initial
        The settings without changes.
    follow_caller
        Whether a call within a trace is sampled as its caller is.
    """

    def __init__(self, initial: TraceSettings, *, follow_caller: bool = True) -> None:
        self._initial = initial
        self._follow_caller = follow_caller
        self._lock = threading.Lock()
        # By model; "" are the changes for all.
        self._changes: dict[str, dict[str, bool | float | int]] = {"": {}}
        self._effective = {"": initial}

    @property
    def knows_models(self) -> bool:
        """Whether a model has settings of its own."""
        return len(self._effective) > 1

    def settings(self, model: str = "") -> TraceSettings:
        """The settings of a model, or those of all that have none of their own."""
        return self._effective.get(model) or self._effective[""]

    def change(self, model: str, change: Change) -> None:
        """Change the settings of a model, or with "" those of all."""
        with self._lock:
            kept = {**self._changes.get(model, {}), **change}
            self._changes[model] = {key: value for key, value in kept.items() if value is not None}  # type: ignore[misc]
            if model and not self._changes[model]:
                del self._changes[model]
            self._apply()

    def samples(self, kind: SpanKind | None, caller: SpanContext, trace_id: int, model: str) -> bool:
        """Whether a span is sampled: by the settings, by its caller where that counts more, or by its trace's id.

        `model` is needed only where a model has settings of its own.
        """
        settings = self.settings(model)
        if not settings.on or (settings.count == 0 and kind is SpanKind.SERVER):
            return False
        if self._follow_caller and caller.is_valid:
            return caller.trace_flags.sampled
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < TraceIdRatioBased.get_bound_for_rate(settings.share)

    def should_sample(  # noqa: PLR0917 - the signature is the SDK's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        """Decide on one span, and count it."""
        model = str((attributes or {}).get(MODEL, "")) if self.knows_models else ""
        caller = get_current_span(parent_context).get_span_context()
        if not self.samples(kind, caller, trace_id, model):
            return SamplingResult(Decision.DROP)
        if self.settings(model).count > 0 and kind is SpanKind.SERVER:
            self._count_down(model)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, caller.trace_state)

    def get_description(self) -> str:
        """A line for people."""
        return f"CallSampler({self.settings()})"

    def _count_down(self, model: str) -> None:
        with self._lock:
            owner = model if "count" in self._changes.get(model, {}) else ""
            left = self._changes[owner].get("count", 0)
            if left > 0:
                self._changes[owner]["count"] = left - 1
                self._apply()

    def _apply(self) -> None:
        shared = self._changes[""]
        self._effective = {
            model: dataclasses.replace(self._initial, **{**shared, **own})  # type: ignore[arg-type]
            for model, own in self._changes.items()
        }


def sampler_from_environment(environment: Mapping[str, str]) -> CallSampler:
    """The sampler that the environment asks for; without any, every call that its caller does not decide on.

    Raises
    ------
    SettingsError
        The environment asks for one that is not built in, or its argument is no share.
    """
    name = environment.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    if name not in _SAMPLERS:
        raise SettingsError(f"OTEL_TRACES_SAMPLER: {name!r} is none of {', '.join(_SAMPLERS)}")
    share, follow_caller, on = _SAMPLERS[name]
    if share is None:
        share = _share(environment.get("OTEL_TRACES_SAMPLER_ARG", "1.0"))
    return CallSampler(TraceSettings(on=on, share=share), follow_caller=follow_caller)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG: {text!r} must be a number from 0 to 1")
    return share
