"""Items 16, 17 and 20: statistics, repository, trace and log settings, restricted routes."""

from __future__ import annotations

from typing import Any

from tests.conformance.clients import Rest, Triton, error_of, text
from tests.conformance.suite import CALLS, GRPC, HTTP, REST, SYNC, check, equal, refused
from tests.conformance.targets import ADMIN_HEADER, eventually

ADMIN = dict([ADMIN_HEADER])
GRPC_PREFIX = "triton-grpc-protocol-"
"""What Triton puts before the name of a header that admits to a restricted gRPC service."""


def _statistics(client: Triton, model: str) -> dict[str, Any]:
    (found,) = client.json("get_inference_statistics", model)["model_stats"]
    equal(found["name"], model, "model")
    return found  # type: ignore[no-any-return]


def _count(statistics: dict[str, Any], *path: str) -> int:
    """Return a counter; protobuf leaves zeros out of its JSON and writes large integers as text."""
    value: Any = statistics
    for key in path:
        value = value.get(key, {})
    return int(value or 0)


@check(16, "every inference is counted, with its time", CALLS)
def statistics_count(client: Triton) -> None:
    before = _statistics(client, "arithmetic")
    for _ in range(3):
        client.infer("arithmetic", client.numbers())
    after = _statistics(client, "arithmetic")
    for path in (("inference_count",), ("execution_count",), ("inference_stats", "success", "count")):
        equal(_count(after, *path) - _count(before, *path), 3, ".".join(path))
    grown = _count(after, "inference_stats", "compute_infer", "ns") > _count(
        before, "inference_stats", "compute_infer", "ns"
    )
    assert grown, "compute_infer.ns did not grow"
    assert _count(after, "last_inference"), "last_inference is 0"


@check(16, "batch_stats tell the sizes of executed batches", SYNC)
def statistics_batches(client: Triton) -> None:
    client.infer("arithmetic", client.numbers())
    batches = _statistics(client, "arithmetic").get("batch_stats", [])
    assert batches, "batch_stats is empty"
    assert all(int(batch["batch_size"]) >= 1 and _count(batch, "compute_infer", "count") for batch in batches), batches


@check(16, "a failed inference is counted as one", SYNC)
def statistics_failures(client: Triton) -> None:
    before = _count(_statistics(client, "text"), "inference_stats", "fail", "count")
    with refused(500):
        client.infer("text", [client.tensor("text_input", text("fail"))])
    after = _count(_statistics(client, "text"), "inference_stats", "fail", "count")
    equal(after - before, 1, "failures")


@check(16, "without a model the statistics are those of all models", SYNC)
def statistics_of_all(client: Triton) -> None:
    names = {entry["name"] for entry in client.json("get_inference_statistics")["model_stats"]}
    assert {"arithmetic", "text", "identity-fp32"} <= names, f"models are {sorted(names)}"


@check(16, "statistics of an unknown model are refused", SYNC)
def statistics_unknown(client: Triton) -> None:
    _statistics(client, "text")
    with refused(400, 404, naming="absent"):
        client.get_inference_statistics("absent")


def _index(client: Triton) -> dict[str, str]:
    found = client.json("get_model_repository_index")
    entries = found if isinstance(found, list) else found["models"]
    return {entry["name"]: entry.get("state", "") for entry in entries}


@check(17, "the repository's index lists the models and their state", CALLS)
def repository_index(client: Triton) -> None:
    equal(_index(client).get("arithmetic"), "READY", "state of arithmetic")


@check(17, "a model can be unloaded, and loaded again", SYNC)
def repository_reload(client: Triton) -> None:
    client.unload_model("identity-int8")
    try:
        eventually(lambda: not client.is_model_ready("identity-int8"), "unloaded")
        assert _index(client).get("identity-int8") != "READY", "the index says READY"
    finally:
        client.load_model("identity-int8")
    eventually(lambda: bool(client.is_model_ready("identity-int8")), "loaded")


@check(17, "loading an unknown model is refused, and it is named", SYNC)
def repository_unknown(client: Triton) -> None:
    assert "absent" not in _index(client), "the index lists it"
    with refused(400, 404, naming="absent"):
        client.load_model("absent")


@check(17, "trace settings can be read and changed", SYNC)
def trace_settings(client: Triton) -> None:
    def rate() -> str:
        found = client.json("get_trace_settings")
        found = found.get("settings", found)
        value = found["trace_rate"]
        return str(value["value"][0] if isinstance(value, dict) else value)

    before = rate()
    client.update_trace_settings(settings={"trace_rate": "77"})
    try:
        equal(rate(), "77", "trace_rate")
    finally:
        client.update_trace_settings(settings={"trace_rate": before})


def _admin(client: Triton) -> dict[str, str]:
    return ADMIN if client.http else {f"{GRPC_PREFIX}{name}": value for name, value in ADMIN.items()}


@check(17, "log settings can be read and changed", SYNC)
def log_settings(client: Triton) -> None:
    def level() -> int:
        found = client.json("get_log_settings", headers=_admin(client))
        value = found.get("settings", found)["log_verbose_level"]
        return int(value["uint32_param"] if isinstance(value, dict) else value)

    equal(level(), 0, "log_verbose_level")
    client.update_log_settings({"log_verbose_level": 1}, headers=_admin(client))
    try:
        equal(level(), 1, "log_verbose_level")
    finally:
        client.update_log_settings({"log_verbose_level": 0}, headers=_admin(client))


@check(20, "a restricted call is refused without its header, and admitted with it", [HTTP, GRPC])
def restricted(client: Triton) -> None:
    client.get_log_settings(headers=_admin(client))
    with refused(403, 503, naming="restrict"):
        client.get_log_settings()


@check(20, "a restricted route answers 403 with `error`", [REST])
def restricted_route(client: Rest) -> None:
    reply = client.call("/v2/logging")
    equal(reply.status, 403, "status")
    assert error_of(reply), "the text is empty"
    equal(client.call("/v2/logging", headers=ADMIN).status, 200, "status with the header")
