"""One request leaves one trace: gateway, both sidecars and Python in a single parent chain."""

import secrets
from typing import Any

from tests import digits as example
from tests.e2e.cluster import eventually
from tests.e2e.services import DEMO_NAMESPACE, Service
from tests.http import call

GATEWAY, INFERENCE = "digits-gateway", "digits-inference"
GATEWAY_SIDECAR, INFERENCE_SIDECAR = f"{GATEWAY}.{DEMO_NAMESPACE}", f"{INFERENCE}.{DEMO_NAMESPACE}"


def spans_of(trace_id: str) -> dict[str, dict[str, Any]]:
    """Return the spans that Jaeger has of a trace by span id, each with its `service`, `kind` and `parent`."""
    reply = call(f"http://127.0.0.1:16686/api/traces/{trace_id}")
    if reply.status == 404:
        return {}
    found = {}
    for trace in reply.json()["data"]:
        for span in trace["spans"]:
            parents = [ref["spanID"] for ref in span.get("references", []) if ref["refType"] == "CHILD_OF"]
            tags = {tag["key"]: tag["value"] for tag in span["tags"]}
            found[span["spanID"]] = {
                "service": trace["processes"][span["processID"]]["serviceName"],
                "kind": tags.get("span.kind", "internal"),
                "parent": parents[0] if parents else None,
            }
    return found


def chain_up_from(spans: dict[str, dict[str, Any]], leaf: str) -> list[tuple[str, str]]:
    """Return (service, kind) from a span up to the root, following parents."""
    chain = []
    current: str | None = leaf
    while current in spans:
        chain.append((spans[current]["service"], spans[current]["kind"]))
        current = spans[current]["parent"]
    return chain


def test_one_request_is_one_chain_from_gateway_sidecar_to_python(digits: Service) -> None:
    trace_id, root = secrets.token_hex(16), secrets.token_hex(8)
    reply = call(
        "http://127.0.0.1:8000/v2/models/digits/infer",
        example.rest_body(example.held_out()[:1]),
        headers={"traceparent": f"00-{trace_id}-{root}-01", "x-client-trace-id": trace_id},
    )
    assert reply.status == 200, reply.body
    wanted = {GATEWAY, INFERENCE, GATEWAY_SIDECAR, INFERENCE_SIDECAR}
    spans = eventually(
        lambda: spans_of(trace_id),
        lambda seen: wanted <= {span["service"] for span in seen.values()},
        within=60,
        what=f"spans of {sorted(wanted)} in trace {trace_id}",
    )
    servers = [i for i, span in spans.items() if span["service"] == INFERENCE and span["kind"] == "server"]
    assert len(servers) == 1
    assert chain_up_from(spans, servers[0]) == [
        (INFERENCE, "server"),
        (INFERENCE_SIDECAR, "server"),
        (GATEWAY_SIDECAR, "client"),
        (GATEWAY, "client"),
        (GATEWAY, "server"),
        (GATEWAY_SIDECAR, "server"),
    ]
