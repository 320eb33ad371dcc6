"""A model's counters as Triton's message ModelStatistics."""

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.repository.served import VERSION, ServedModel
from polyglot_inference.telemetry.statistics import AnswerCounters, BatchCounters, Duration


def model_statistics(served: ServedModel) -> pb.ModelStatistics:
    """What a model did since it was loaded."""
    counters = served.statistics.counters()
    return pb.ModelStatistics(
        name=served.name,
        version=VERSION,
        last_inference=counters.last_inference_ms,
        inference_count=counters.inference_count,
        execution_count=counters.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(counters.success),
            fail=_duration(counters.fail),
            queue=_duration(counters.queue),
            compute_input=_duration(counters.compute_input),
            compute_infer=_duration(counters.compute_infer),
            compute_output=_duration(counters.compute_output),
            # There is no cache of answers: nothing is ever found in it, or sought.
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
        batch_stats=[_batch(size, counters.batches[size]) for size in sorted(counters.batches)],
        response_stats={index: _answer(answers) for index, answers in counters.answers.items()},
    )


def _batch(size: int, counters: BatchCounters) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=size,
        compute_input=_duration(counters.compute_input),
        compute_infer=_duration(counters.compute_infer),
        compute_output=_duration(counters.compute_output),
    )


def _answer(counters: AnswerCounters) -> pb.InferResponseStatistics:
    return pb.InferResponseStatistics(
        compute_infer=_duration(counters.compute_infer),
        compute_output=_duration(counters.compute_output),
        success=_duration(counters.success),
        fail=_duration(counters.fail),
        empty_response=_duration(counters.empty_response),
        cancel=_duration(counters.cancel),
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
