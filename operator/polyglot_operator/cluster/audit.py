"""Finds what vanished unseen: a watch that starts over lists what exists, and never tells what no longer does.

Kopf relists after `410 Gone` and its memory, like ours, keeps objects that were deleted in between.
"""

from __future__ import annotations

from polyglot_operator.api import names
from polyglot_operator.cluster.client import Client
from polyglot_operator.cluster.errors import NotFoundError
from polyglot_operator.cluster.inventory import Inventory, Key
from polyglot_operator.cluster.kinds import SERVICE, Kind


async def drop_vanished(client: Client, inventory: Inventory, kind: Kind, namespace: str | None) -> set[Key]:
    """Compare the inventory of a kind with the API server and forget what is gone; return the services concerned.

    Only metadata is transferred. Raises `ClusterError`; a kind that is not served has no objects.
    """
    known = inventory.of_kind(kind)
    if namespace is not None:
        known = {ref: seen for ref, seen in known.items() if ref.namespace == namespace}
    if not known:
        return set()
    selector = "" if kind == SERVICE else names.CHILD_SELECTOR
    try:
        listed, version = await client.metadata(kind, namespace, selector)
    except NotFoundError:
        listed, version = [], str(max(seen for _, seen in known.values()))
    alive = {metadata["uid"] for metadata in listed}
    concerned = set()
    for ref, (uid, seen) in known.items():
        if uid not in alive and seen <= int(version):
            key = inventory.key_of(ref)
            if key is not None:
                inventory.forget(key, ref, uid)
                concerned.add(key)
    return concerned
