"""Which calls are traced: at first by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG, then as callers change it.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypedDict

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from polyglot_inference.settings import SettingsError

MODEL: Final = "polyglot.model.name"
"""The attribute of spans that names their model."""
UNLIMITED: Final = -1
# Those of a trace's id that decide on it.
_ID_BITS: Final = TraceIdRatioBased.TRACE_ID_LIMIT

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


@dataclass(frozen=True, slots=True)
class _Rule:
    """What settings mean for one span: sampled as its caller, where that counts, or by its trace's id.

    Parameters
    ----------
    on
        False: it is not sampled, whatever its caller decided.
    bound
        Traces are sampled whose ids, in their lower 64 bits, are below.
    """

    on: bool
    bound: int

    @classmethod
    def of(cls, settings: TraceSettings) -> Self:
        traced = settings.on and settings.count != 0
        return cls(traced, TraceIdRatioBased.get_bound_for_rate(settings.share) if traced else 0)


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
        self.knows_models = False
        """Whether a model has settings of its own."""
        self._apply()

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

    def samples(self, caller_samples: bool | None, trace_id: int, model: str) -> bool:
        """Whether a call is sampled: by the settings, by its caller where that counts more, or by its trace's id.

        `caller_samples` is None for a call that brings no trace; `model` is needed only where a model has settings of
        its own.
        """
        return self._judge(self._calls, caller_samples, trace_id, model)

    def _judge(self, rules: Mapping[str, _Rule], caller_samples: bool | None, trace_id: int, model: str) -> bool:
        rule = rules.get(model) or rules[""]
        if caller_samples is None or not self._follow_caller:
            return trace_id & _ID_BITS < rule.bound
        return caller_samples and rule.on

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
        rules = self._calls if kind is SpanKind.SERVER else self._within_calls
        if not self._judge(rules, caller.trace_flags.sampled if caller.is_valid else None, trace_id, model):
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
        self.knows_models = len(self._effective) > 1
        # Judged for every call, so what can be worked out beforehand is. Calls alone are counted: what is sampled
        # within the last of them has its spans still.
        self._calls = {model: _Rule.of(settings) for model, settings in self._effective.items()}
        self._within_calls = {
            model: _Rule.of(dataclasses.replace(settings, count=UNLIMITED))
            for model, settings in self._effective.items()
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
