"""Ports on this machine: free ones are found, taken ones are named."""

import dataclasses
import socket

import pytest

from polyglot_operator.local import ports
from polyglot_operator.manifests import InputError


def test_any_ports_are_free_and_different() -> None:
    assert len(set(dataclasses.astuple(ports.take(0)))) == 4


def test_a_taken_port_is_named_with_its_role_and_the_option() -> None:
    with socket.create_server((ports.HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {taken} of 127.0.0.1 \(REST\).*in use.*--port"):
            ports.take(taken)


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(InputError, match=r"65536.*--port"):
        ports.take(65534)
