"""Items 2, 9 and 10: metadata, the caller's id, unknown models and versions."""

from __future__ import annotations

import numpy as np

from tests.conformance.clients import Rest, Triton, error_of, request_of
from tests.conformance.suite import ALL, CALLS, REST, check, equal, refused


@check(2, "server metadata: name, version and extensions", CALLS)
def server_metadata(client: Triton) -> None:
    found = client.json("get_server_metadata")
    assert found["name"], "the name is empty"
    assert found["version"], "the version is empty"
    assert all(isinstance(extension, str) for extension in found.get("extensions", [])), found


@check(2, "the server's extensions name binary tensors, statistics and the model repository", CALLS)
def extensions(client: Triton) -> None:
    found = set(client.json("get_server_metadata").get("extensions", []))
    missing = {"binary_tensor_data", "statistics", "model_repository"} - found
    assert not missing, f"extensions lack {', '.join(sorted(missing))}"


@check(2, "model metadata: versions, platform, tensors with -1 for any size", CALLS)
def model_metadata(client: Triton) -> None:
    found = client.json("get_model_metadata", "arithmetic")
    equal(found["name"], "arithmetic", "name")
    equal(found.get("versions"), ["1"], "versions")
    assert found.get("platform"), "the platform is empty"
    equal(_tensors(found, "inputs"), [("a", "INT32", [-1, 4]), ("b", "INT32", [-1, 4])], "inputs")
    equal(sorted(_tensors(found, "outputs")), [("difference", "INT32", [-1, 4]), ("sum", "INT32", [-1, 4])], "outputs")


def _tensors(metadata: dict[str, object], role: str) -> list[tuple[str, str, list[int]]]:
    tensors = metadata.get(role)
    assert isinstance(tensors, list), f"{role} is {tensors!r}"
    return [(t["name"], t["datatype"], [int(size) for size in t["shape"]]) for t in tensors]


@check(2, "metadata of a named version is the model's", CALLS)
def version_metadata(client: Triton) -> None:
    equal(client.json("get_model_metadata", "arithmetic", "1")["name"], "arithmetic", "name")


@check(2, "metadata of an unknown model, or version, is not found", CALLS)
def unknown_metadata(client: Triton) -> None:
    with refused(404, naming="absent"):
        client.get_model_metadata("absent")
    with refused(404):
        client.get_model_metadata("arithmetic", "99")


@check(2, "model configuration: name, inputs and outputs", CALLS)
def model_configuration(client: Triton) -> None:
    found = client.json("get_model_config", "arithmetic")
    found = found.get("config", found)
    equal(found["name"], "arithmetic", "name")
    equal([(t["name"], t["data_type"]) for t in found["input"]], [("a", "TYPE_INT32"), ("b", "TYPE_INT32")], "input")
    equal(sorted(t["name"] for t in found["output"]), ["difference", "sum"], "output")


@check(9, "an id comes back as it was sent", ALL)
def id_echo(client: Triton) -> None:
    answer = client.infer("arithmetic", client.numbers(), request_id="größer/7")
    response = answer.get_response()
    equal(response["id"] if client.http else response.id, "größer/7", "id")


@check(9, "the answer names model and version", ALL)
def answer_names_model(client: Triton) -> None:
    response = client.infer("arithmetic", client.numbers()).get_response()
    name, version = (
        (response["model_name"], response.get("model_version"))
        if client.http
        else (response.model_name, response.model_version)
    )
    equal((name, version), ("arithmetic", "1"), "model and version")


@check(9, "the caller's own parameters don't disturb a call", ALL)
def parameters_pass(client: Triton) -> None:
    answer = client.infer("arithmetic", client.numbers(), parameters={"customer": "a", "number": 3, "flag": True})
    np.testing.assert_array_equal(answer.as_numpy("sum").ravel(), np.arange(1, 9))


@check(10, "an unknown model is not found, and named", ALL)
def unknown_model(client: Triton) -> None:
    with refused(404, naming="absent"):
        client.infer("absent", client.numbers())


@check(10, "an unknown version is not found", ALL)
def unknown_version(client: Triton) -> None:
    with refused(404):
        client.infer("arithmetic", client.numbers(), "99")


@check(10, "a version may be named", ALL)
def known_version(client: Triton) -> None:
    np.testing.assert_array_equal(
        client.infer("arithmetic", client.numbers(), "1").as_numpy("sum").ravel(), np.arange(1, 9)
    )


@check(10, "every refusal has `error`, a text, in a JSON body: unknown model, malformed JSON, unknown route", [REST])
def error_bodies(client: Rest) -> None:
    number = ("x", "FP32", [1, 1], [1.0])
    for path, body in (
        ("/v2/models/absent/infer", request_of(number)),
        ("/v2/models/identity-fp32/versions/99/infer", request_of(number)),
        ("/v2/models/identity-fp32/infer", b'{"inputs": ['),
        ("/v2/models/identity-fp32/infer", b""),
        ("/v2/nothing-here", None),
    ):
        reply = client.call(path, body)
        assert 400 <= reply.status < 500, f"{path}: status {reply.status}"
        assert error_of(reply), f"{path}: the text is empty"
