"""Answers of the API server as typed errors."""

from __future__ import annotations

import json

import pytest

from polyglot_operator.cluster import errors


def status(message: str, **more: object) -> bytes:
    return json.dumps({"kind": "Status", "message": message, **more}).encode()


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (400, "bad", errors.InvalidError),
        (401, "who", errors.ForbiddenError),
        (403, "quota", errors.ForbiddenError),
        (404, "gone", errors.NotFoundError),
        (409, "changed", errors.ConflictError),
        (422, "spec.ports: required", errors.InvalidError),
        (422, 'x is invalid: metadata.uid: Invalid value: "a": field is immutable', errors.ConflictError),
        (422, "the server rejected our request due to an error in our request", errors.ConflictError),
        (429, "slow down", errors.ThrottledError),
        (500, "etcd", errors.UnavailableError),
        (503, "starting", errors.UnavailableError),
        (418, "teapot", errors.UnavailableError),
    ],
)
def test_an_answer_is_typed_by_what_to_do_about_it(
    code: int, message: str, expected: type[errors.ClusterError]
) -> None:
    error = errors.from_response(code, status(message), None)
    assert type(error) is expected
    assert (error.message, error.status) == (message, code)


def test_a_namespace_that_is_being_deleted_is_told_from_missing_permissions() -> None:
    message = 'configmaps "x" is forbidden: unable to create new content in namespace n because it is being terminated'
    causes = [{"reason": "NamespaceTerminating", "message": "namespace n is being terminated"}]
    error = errors.from_response(403, status(message, details={"name": "x", "causes": causes}), None)
    assert type(error) is errors.NamespaceTerminatingError
    assert error.message == message


def test_patience_lasts_as_long_as_the_server_asks_for() -> None:
    error = errors.from_response(429, status("slow down"), "7")
    assert isinstance(error, errors.ThrottledError)
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("body", "expected"), [(b"<html>bad gateway", "<html>bad gateway"), (b"", "HTTP 502"), (b"[]", "[]")]
)
def test_an_answer_that_is_no_status_object_is_told_as_it_is(body: bytes, expected: str) -> None:
    assert errors.from_response(502, body, None).message == expected
