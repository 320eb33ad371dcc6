"""Which calls are traced, by the environment and by changes at runtime."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind

from polyglot_inference.settings import SettingsError
from polyglot_inference.telemetry.sampling import MODEL, CallSampler, TraceSettings, sampler_from_environment


def caller(*, sampled: bool) -> Context:
    """The context of a caller who traces, or says not to."""
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    span = trace.SpanContext(trace_id=7, span_id=7, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(span), Context())


def sampled(sampler: CallSampler, parent: Context | None = None, model: str = "", trace_id: int = 7) -> bool:
    result = sampler.should_sample(parent or Context(), trace_id, "call", SpanKind.SERVER, {MODEL: model})
    return result.decision is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize(
    ("environment", "settings", "of_traced_caller", "of_untraced_caller"),
    [
        ({}, TraceSettings(on=True, share=1.0), True, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, TraceSettings(on=True, share=1.0), True, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, TraceSettings(on=False, share=0.0), False, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, TraceSettings(on=True, share=0.0), True, False),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
            TraceSettings(on=True, share=0.01),
            True,
            False,
        ),
    ],
)
def test_the_environment_chooses_the_sampler(
    environment: dict[str, str], settings: TraceSettings, of_traced_caller: bool, of_untraced_caller: bool
) -> None:
    sampler = sampler_from_environment(environment)
    assert sampler.settings() == settings
    assert sampled(sampler, caller(sampled=True)) == of_traced_caller
    assert sampled(sampler, caller(sampled=False)) == of_untraced_caller


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: 'jaeger_remote' is none of always_on"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG: '10%' must be a number from 0 to 1",
        ),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"}, "'1.5' must be a number"),
    ],
)
def test_a_wrong_environment_is_refused_with_the_variable_named(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        sampler_from_environment(environment)


def test_a_share_is_that_share_of_traces() -> None:
    sampler = CallSampler(TraceSettings(on=True, share=1.0))
    sampler.change("", {"share": 0.25})
    step = 2**64 // 1000  # a share is decided by the lower 64 bits of the trace's id
    assert sum(sampled(sampler, trace_id=step * number + step // 2) for number in range(1000)) == 250


def test_what_is_off_is_off_for_traced_callers_too() -> None:
    sampler = CallSampler(TraceSettings(on=True, share=1.0))
    sampler.change("", {"on": False})
    assert not sampled(sampler, caller(sampled=True))
    sampler.change("", {"on": None})
    assert sampled(sampler, caller(sampled=True))


def test_a_count_ends_the_traces_and_is_counted_down() -> None:
    sampler = CallSampler(TraceSettings(on=True, share=1.0))
    sampler.change("", {"count": 2})
    assert [sampled(sampler) for _ in range(4)] == [True, True, False, False]
    assert sampler.settings().count == 0
    sampler.change("", {"count": None})
    assert sampled(sampler)


def test_a_model_has_settings_of_its_own_until_they_are_cleared() -> None:
    sampler = CallSampler(TraceSettings(on=True, share=1.0))
    sampler.change("quiet", {"on": False})
    sampler.change("counted", {"count": 1})
    sampler.change("", {"share": 0.5})
    assert sampler.knows_models
    assert sampler.settings("quiet") == TraceSettings(on=False, share=0.5)
    assert sampler.settings("other") == sampler.settings() == TraceSettings(on=True, share=0.5)
    assert not sampled(sampler, caller(sampled=True), "quiet")
    assert [sampled(sampler, caller(sampled=True), "counted") for _ in range(2)] == [True, False]
    assert sampled(sampler, caller(sampled=True), "other")
    sampler.change("quiet", {"on": None})
    sampler.change("counted", {"count": None})
    assert sampler.settings("quiet") == sampler.settings("counted") == sampler.settings()
    assert sampled(sampler, caller(sampled=True), "quiet")
