"""A histogram for what every call is told: prometheus_client's takes several times as long to observe a value."""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

# Values that are kept until they are counted together, which makes each of them cheap and holds nobody up for long.
_MOST_KEPT: Final = 256


class Observations:
    """The values of one series, told by any thread.

    Parameters
    ----------
    bounds
        The upper bounds of the buckets, ascending, without infinity.
    """

    __slots__ = ("_append", "_bounds", "_counts", "_created", "_kept", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._created = time.time()
        self._lock = threading.Lock()
        self._kept: deque[float] = deque()
        self._append = self._kept.append

    def observe(self, value: float) -> None:
        """Count a value."""
        self._append(value)  # atomic: only who counts what is kept takes the lock
        if len(self._kept) >= _MOST_KEPT:
            self._count()

    def observe_all(self, values: Collection[float]) -> None:
        """Count several values."""
        self._kept.extend(values)
        if len(self._kept) >= _MOST_KEPT:
            self._count()

    def add_to(self, family: HistogramMetricFamily, labels: dict[str, str], *, created: bool) -> None:
        """Add all that was observed, as samples of one moment, and where it is asked for the time of creation."""
        counts, total = self._count()
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(names, accumulate(counts), strict=True))
        family.add_metric(list(labels.values()), buckets, total)
        if created:
            family.add_sample(f"{family.name}_created", labels, self._created)

    def _count(self) -> tuple[list[int], float]:
        """The values of each bucket and the sum of all, with those that were kept."""
        with self._lock:
            kept = sorted(self._kept.popleft() for _ in range(len(self._kept)))
            below = 0
            for bucket, bound in enumerate(self._bounds):
                up_to = bisect_right(kept, bound, below)
                self._counts[bucket] += up_to - below
                below = up_to
            self._counts[-1] += len(kept) - below
            self._sum += sum(kept)
            return self._counts.copy(), self._sum


class Histogram(Collector):
    """A histogram by one label, which a scrape finds as one of prometheus_client's.

    Parameters
    ----------
    name, documentation, label
        What a scrape tells of it.
    bounds
        The upper bounds of the buckets, ascending, without infinity.
    registry
        Where it is registered.
    """

    def __init__(
        self, name: str, documentation: str, label: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._bounds = bounds
        self._lock = threading.Lock()
        self._series: dict[str, Observations] = {}
        registry.register(self)

    def labels(self, value: str) -> Observations:
        """The series with this value of the label."""
        with self._lock:
            return self._series.setdefault(value, Observations(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The family without its series: the registry refuses a second one of its name."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=[self._label])]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family with all its series."""
        with self._lock:
            series = list(self._series.items())
        families, created = self.describe(), tells_created()
        for family in families:
            for value, observations in series:
                observations.add_to(family, {self._label: value}, created=created)
        return families


def tells_created() -> bool:
    """Whether series have `_created` beside them, by PROMETHEUS_DISABLE_CREATED_SERIES or a call of the library's.

    It lets others set that and not ask for it, so a histogram of its own is asked.
    """
    (known,) = prometheus_client.Histogram("known", "One of the library's.", registry=None).collect()
    return any(sample.name == "known_created" for sample in known.samples)
