"""`--update-golden` rewrites the golden files (`make golden`)."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")
