"""The live line: what passed between two looks at the gateway's metrics."""

from polyglot_operator.local.traffic import Counts, summary, total

METRICS = """# TYPE polyglot_gateway_requests_total counter
polyglot_gateway_requests_total{{method="POST",protocol="rest",route="/v2/models/{{model}}/infer",code="OK"}} {rest}
polyglot_gateway_requests_total{{method="ModelInfer",protocol="grpc",route="rpc",code="OK"}} {grpc}
polyglot_gateway_requests_total{{method="GET",protocol="rest",route="/v2/health/ready",code="OK"}} 1000
# TYPE polyglot_gateway_request_duration_seconds histogram
polyglot_gateway_request_duration_seconds_bucket{{method="ModelInfer",route="r",le="0.001"}} {fast}
polyglot_gateway_request_duration_seconds_bucket{{method="ModelInfer",route="r",le="0.0025"}} {slow}
polyglot_gateway_request_duration_seconds_bucket{{method="ModelInfer",route="r",le="+Inf"}} {all}
# TYPE polyglot_gateway_batch_size_rows histogram
polyglot_gateway_batch_size_rows_sum{{model="m"}} {rows}
polyglot_gateway_batch_size_rows_count{{model="m"}} {batches}
"""


def counts(at: float, **values: int) -> Counts:
    zero = dict.fromkeys(("rest", "grpc", "fast", "slow", "all", "rows", "batches"), 0)
    return Counts.read(METRICS.format(**(zero | values)), at)


def test_a_line_tells_rate_p99_and_batch_size_of_the_time_between_two_looks() -> None:
    before = counts(10, rest=100, fast=100, slow=100, all=100, rows=800, batches=100)
    now = counts(12, rest=150, grpc=150, fast=290, slow=299, all=300, rows=1600, batches=200)
    assert summary(before, now) == "100 requests/s, p99 ≤ 2.5 ms, mean batch 8.0 rows"


def test_calls_that_took_longer_than_every_bound_are_said_to() -> None:
    assert summary(counts(0), counts(1, rest=10, fast=5, slow=5, all=10)) == "10 requests/s, p99 > 2.5 ms"


def test_quiet_times_have_no_latency() -> None:
    assert summary(counts(0, rest=9, all=9), counts(1, rest=9, all=9)) == "0 requests/s"


def test_a_gateway_that_is_gone_counts_nothing() -> None:
    assert summary(counts(0, rest=9, all=9), Counts.read("", 1)) == "0 requests/s"


def test_samples_are_summed_by_their_labels() -> None:
    page = 'a{state="ready",backend="1"} 1\na{state="ready",backend="2"} 1\na{state="idle",backend="3"} 1\n'
    assert total(page, "a", state="ready") == 2
    assert total(page, "b") == 0
