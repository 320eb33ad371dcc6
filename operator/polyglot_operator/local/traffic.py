"""What passes through the gateway, read from its metrics."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

_SHARE: Final = 0.99
_INFERENCE_ROUTES: Final = ("/infer", "/generate", "/generate_stream")
_INFERENCE_METHODS: Final = {"ModelInfer", "ModelStreamInfer"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls for inference since the gateway's start: how many, how long (by upper bound), and how they were batched."""

    at: float
    calls: float = 0
    within: dict[float, float] = field(default_factory=dict)
    batches: float = 0
    rows: float = 0

    @classmethod
    def read(cls, text: str, at: float) -> Self:
        """Return the counts in a page of metrics that was read at a time in seconds."""
        totals: defaultdict[str, float] = defaultdict(float)
        within: defaultdict[float, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if "route" in sample.labels and not _is_inference(sample.labels):
                    continue
                totals[sample.name] += sample.value
                if sample.name == "polyglot_gateway_request_duration_seconds_bucket":
                    within[float(sample.labels["le"])] += sample.value
        return cls(
            at,
            totals["polyglot_gateway_requests_total"],
            dict(within),
            totals["polyglot_gateway_batch_size_rows_count"],
            totals["polyglot_gateway_batch_size_rows_sum"],
        )


def total(page: str, metric: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return sum(s.value for s in samples if s.name == metric and labels.items() <= s.labels.items())


def fetch(url: str) -> str:
    """Return the page at a URL; raise `OSError`, or `HTTPException` when it is cut short."""
    with urllib.request.urlopen(url, timeout=5) as reply:
        text: str = reply.read().decode()
        return text


def summary(before: Counts, now: Counts) -> str:
    """Return one line on the calls between two looks."""
    calls = max(0, now.calls - before.calls)  # fewer when the gateway has gone
    line = f"{calls / max(now.at - before.at, 1e-9):.0f} requests/s"
    if not calls:
        return line
    slow = _p99({bound: count - before.within.get(bound, 0) for bound, count in now.within.items()})
    batches = now.batches - before.batches
    mean = f", mean batch {(now.rows - before.rows) / batches:.1f} rows" if batches else ""
    return f"{line}, p99 {slow}{mean}"


def _is_inference(labels: dict[str, str]) -> bool:
    return labels["route"].endswith(_INFERENCE_ROUTES) or labels["method"] in _INFERENCE_METHODS


def _p99(within: dict[float, float]) -> str:
    """Return the bound of the histogram that 99 % of calls kept to; it is no finer than its buckets."""
    bounds = sorted(within)
    needed = _SHARE * within[bounds[-1]]
    bound = next(bound for bound in bounds if within[bound] >= needed)
    return f"≤ {bound * 1000:g} ms" if math.isfinite(bound) else f"> {bounds[-2] * 1000:g} ms"
