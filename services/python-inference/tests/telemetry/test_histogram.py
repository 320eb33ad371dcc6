"""What is observed is counted once, in the bucket where prometheus_client's own histogram has it."""

from __future__ import annotations

import threading

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from polyglot_inference.telemetry.histogram import Histogram

BOUNDS = (0.0005, 0.5, 1, 1024)
# Powers of two: their sum is the same in any order.
VALUES = st.lists(st.sampled_from([*BOUNDS[1:], 0.0, 0.25, 2.0, 4096.0]), max_size=600)


def scraped(registry: CollectorRegistry) -> list[str]:
    """The lines of a scrape, without the times at which series were created."""
    lines = generate_latest(registry).decode().splitlines()
    return [line.rpartition(" ")[0] if line.startswith("a_created{") else line for line in lines]


@given(VALUES, VALUES)
def test_a_scrape_is_that_of_the_librarys_histogram(first: list[float], second: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = Histogram("a", "What it is.", "model", BOUNDS, ours)
    known = prometheus_client.Histogram("a", "What it is.", ["model"], buckets=BOUNDS, registry=theirs)
    for values in (first, second):
        for value in values:
            quick.labels("m").observe(value)
            known.labels("m").observe(value)
        quick.labels('"').observe(1)
        known.labels('"').observe(1)
        assert scraped(ours) == scraped(theirs)


def test_the_time_of_creation_is_told_as_the_library_is_told_to() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("a", "What it is.", "model", BOUNDS, ours).labels("m").observe(1)
    prometheus_client.Histogram("a", "What it is.", ["model"], buckets=BOUNDS, registry=theirs).labels("m").observe(1)
    created = 'a_created{model="m"}'
    assert created in scraped(ours)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        assert created not in scraped(ours)
        assert scraped(ours) == scraped(theirs)
    finally:
        prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]
    assert scraped(ours) == scraped(theirs)


def test_a_second_histogram_of_the_name_is_refused() -> None:
    registry = CollectorRegistry()
    Histogram("a", "One.", "model", BOUNDS, registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Histogram("a", "Another.", "model", BOUNDS, registry)


def test_no_value_is_lost_between_threads_and_scrapes() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("a", "Values.", "model", BOUNDS, registry)
    threads, each = 4, 5_000

    def tell() -> None:
        series = histogram.labels("m")
        for _ in range(each):
            series.observe(0.5)

    def total(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model": "m", **labels})

    telling = [threading.Thread(target=tell) for _ in range(threads)]
    for thread in telling:
        thread.start()
    while any(thread.is_alive() for thread in telling):
        assert (total("a_count") or 0) <= threads * each
    for thread in telling:
        thread.join()
    assert total("a_count") == total("a_bucket", le="0.5") == threads * each
    assert total("a_sum") == threads * each / 2
    assert total("a_bucket", le="0.0005") == 0
