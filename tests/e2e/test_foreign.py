"""Objects of others that bear the names of our children, and services with names like each other."""

from __future__ import annotations

from tests.e2e.cluster import Command
from tests.e2e.services import Get, add_model, children, declare, names


def test_a_foreign_object_of_the_same_name_is_left_alone_until_it_is_gone(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    kubectl("create", "service", "clusterip", "taken-gateway", "--tcp=1:1", "-n", namespace)
    foreign = get("service/taken-gateway", "-n", namespace)
    service = declare(kubectl, namespace, "taken")
    condition = service.wait("Reconciled", "False", "NameConflict", within=30)
    assert "Service taken-gateway" in condition["message"]
    assert get("service/taken-gateway", "-n", namespace) == foreign
    assert not [name for name in names(children(get, service)) if name.startswith("Deployment/")]
    kubectl("delete", "service", "taken-gateway", "-n", namespace)
    service.wait("Reconciled", "True", within=60)


def test_a_service_beside_one_whose_children_it_could_be_mistaken_for_keeps_its_own(
    kubectl: Command, get: Get, namespace: str
) -> None:
    add_model(kubectl, namespace)
    short, long = declare(kubectl, namespace, "a"), declare(kubectl, namespace, "a-gateway")
    for service in (short, long):
        service.wait("Reconciled", "True")
    assert not names(children(get, short)) & names(children(get, long))
