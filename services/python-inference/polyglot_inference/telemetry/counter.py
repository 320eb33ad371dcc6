"""A counter for what the event loop is told of every call: prometheus_client's takes ten times as long to count."""

import threading
import time
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from polyglot_inference.telemetry.histogram import tells_created


class Count:
    """The count of one series: one thread counts, and so needs no lock; any may read it."""

    __slots__ = ("_created", "_value")

    def __init__(self) -> None:
        self._value = 0
        self._created = time.time()

    def inc(self) -> None:
        """Count one more."""
        self._value += 1

    def add_to(self, family: CounterMetricFamily, labels: Sequence[str], *, created: bool) -> None:
        """Add the count as a sample, and where it is asked for the time of creation."""
        family.add_metric(labels, self._value, self._created if created else None)


class LoopCounter(Collector):
    """A counter of what happens on the event loop, which a scrape finds as one of prometheus_client's.

    Parameters
    ----------
    name, documentation, labels
        What a scrape tells of it.
    registry
        Where it is registered.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series with these values of the labels."""
        with self._lock:
            return self._series.setdefault(values, Count())

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The family without its series: the registry refuses a second one of its name."""
        return [CounterMetricFamily(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The family with all its series."""
        with self._lock:
            series = list(self._series.items())
        families, created = self.describe(), tells_created()
        for family in families:
            for values, count in series:
                count.add_to(family, values, created=created)
        return families
