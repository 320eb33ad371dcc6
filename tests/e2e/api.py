"""The API server without kubectl in between, for requests that must be milliseconds apart."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyglot_operator.cluster.kinds import Ref

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class Api:
    """Sends requests through `kubectl proxy`, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(self, method: str, path: str, body: object = None, content: str = "application/json") -> Object:
        """Send a request; return the answer, a `Status` object where it was refused."""
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {"Content-Type": content})
        answer: Object = json.loads(self._connection.getresponse().read())
        return answer

    def get(self, ref: Ref) -> Object | None:
        """Return an object with its managed fields, None where there is none."""
        found = self.send("GET", ref.path)
        return None if is_refused(found, 404) else found

    def delete(self, ref: Ref) -> Object:
        """Delete an object, dependents in the background."""
        return self.send("DELETE", ref.path, {"propagationPolicy": "Background"})

    def create(self, obj: Object) -> Object:
        """Create an object."""
        ref = Ref.of(obj)
        return self.send("POST", ref.kind.collection(ref.namespace), obj)


def is_refused(answer: Object, code: int) -> bool:
    """Tell whether an answer is a refusal with this HTTP status."""
    return answer.get("kind") == "Status" and answer.get("code") == code


@contextmanager
def proxied(context: str) -> Iterator[Api]:
    """Run `kubectl proxy` on a free port of 127.0.0.1."""
    command = ["kubectl", "--context", context, "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            if proxy.stdout is None:
                raise RuntimeError("kubectl proxy started without a pipe for its address")
            yield Api(int(proxy.stdout.readline().rpartition(":")[2]))
        finally:
            proxy.terminate()
