"""What is counted on the event loop is told as prometheus_client's own counter tells it."""

from __future__ import annotations

import threading

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition

from polyglot_inference.telemetry.counter import LoopCounter

SERIES = st.lists(st.tuples(st.sampled_from(["", "m", 'a "b"\n']), st.sampled_from(["OK", "INTERNAL"])), max_size=30)


def scraped(registry: CollectorRegistry) -> list[str]:
    """The lines of a scrape in either format, without the times at which series were created."""
    plain, openmetrics = generate_latest(registry), exposition.generate_latest(registry)  # type: ignore[no-untyped-call]
    lines = [*plain.decode().splitlines(), *openmetrics.decode().splitlines()]
    return [line.rpartition(" ")[0] if line.startswith("a_created{") else line for line in lines]


@given(SERIES, SERIES)
def test_a_scrape_is_that_of_the_librarys_counter(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    quick = LoopCounter("a", "What it is.", ["model", "code"], ours)
    known = prometheus_client.Counter("a", "What it is.", ["model", "code"], registry=theirs)
    assert scraped(ours) == scraped(theirs)
    for labels in (first, second):
        for model, code in labels:
            quick.labels(model, code).inc()
            known.labels(model, code).inc()
        assert scraped(ours) == scraped(theirs)


def test_the_time_of_creation_is_told_as_the_library_is_told_to() -> None:
    registry = CollectorRegistry()
    LoopCounter("a", "What it is.", ["model"], registry).labels("m").inc()
    created = 'a_created{model="m"}'
    assert created in scraped(registry)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        assert created not in scraped(registry)
    finally:
        prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]
    assert created in scraped(registry)


def test_a_second_counter_of_the_name_is_refused() -> None:
    registry = CollectorRegistry()
    LoopCounter("a", "One.", ["model"], registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        prometheus_client.Counter("a", "Another.", registry=registry)


def test_nothing_is_lost_or_counted_twice_while_it_is_scraped() -> None:
    registry = CollectorRegistry()
    counter = LoopCounter("a", "What it is.", ["model"], registry)
    each, seen = 50_000, [0.0]

    def tell() -> None:
        for _ in range(each):
            counter.labels("m").inc()

    telling = threading.Thread(target=tell)
    telling.start()
    while telling.is_alive():
        seen.append(registry.get_sample_value("a_total", {"model": "m"}) or 0.0)
    telling.join()
    assert seen == sorted(seen)
    assert seen[-1] <= each
    assert registry.get_sample_value("a_total", {"model": "m"}) == each
