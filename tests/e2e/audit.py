"""What the operators asked of the API server, read from its audit log in the node.

The log holds the requests of the operators' service accounts and of nobody else (platform/audit-policy.yaml), so that
what one operator did in one namespace can be counted while other tests run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.e2e.cluster import node_of

LOG: Final = "/var/log/kubernetes/audit.log"
OPERATOR: Final = "system:serviceaccount:polyglot-system:polyglot-operator"
READS: Final = frozenset({"get", "list", "watch"})


@dataclass(frozen=True)
class Request:
    """One request and its answer; `group`, `resource`, … are empty for a path that names no object."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    authorized: bool
    """False where a right was missing; an admission rule's 403 comes to what is authorized."""
    time: datetime
    uri: str

    @property
    def is_write(self) -> bool:
        """Whether it changes something: an apply is a `patch`."""
        return self.verb not in READS

    @property
    def rights(self) -> set[tuple[str, str, str]]:
        """The rights that it needs, as a role names them: group, resource and verb.

        An apply that makes an object needs `create` beside `patch`; its answer is 201.
        """
        verbs = {self.verb, "create"} if self.code == 201 else {self.verb}
        return {(self.group, f"{self.resource}/{self.subresource}".removesuffix("/"), verb) for verb in verbs}


class AuditLog:
    """The audit log of one kind cluster."""

    def __init__(self, context: str) -> None:
        self._node = node_of(context)

    def mark(self) -> int:
        """Return a mark at the present end: a byte offset."""
        return int(self._node("stat", "--format=%s", LOG))

    def since(self, mark: int, namespace: str = "", user: str = OPERATOR) -> list[Request]:
        """Return a user's requests since a mark, of all namespaces or of one, oldest first.

        Only what follows the mark is read, and of that only what names the namespace leaves the node.
        """
        if self.mark() < mark:
            raise AssertionError(f"{LOG} was rotated since the mark: nothing can be counted across two files")
        wanted = f'"namespace":"{namespace}"' if namespace else ""
        script = 'tail -c "+$1" "$2" | { grep -F -e "$3" || test $? = 1; }'
        lines = self._node("sh", "-c", script, "sh", str(mark + 1), LOG, wanted)
        return [found for found in _requests(lines) if found.user == user and namespace in ("", found.namespace)]


def _requests(lines: str) -> Iterator[Request]:
    for line in lines.splitlines(keepends=True):
        if not line.endswith("}\n"):
            continue  # still being written
        event: dict[str, Any] = json.loads(line)
        code = event.get("responseStatus", {}).get("code", 0)
        if event["verb"] == "watch" and event["stage"] == "ResponseComplete" and code == 200:
            continue  # a watch was counted when it was opened
        about = event.get("objectRef", {})
        yield Request(
            user=event["user"]["username"],
            verb=event["verb"],
            group=about.get("apiGroup", ""),
            resource=about.get("resource", ""),
            subresource=about.get("subresource", ""),
            namespace=about.get("namespace", ""),
            name=about.get("name", ""),
            code=code,
            authorized=event.get("annotations", {}).get("authorization.k8s.io/decision") == "allow",
            time=datetime.fromisoformat(event["requestReceivedTimestamp"]),
            uri=event["requestURI"],
        )
