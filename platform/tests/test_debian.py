"""What is installed on this host, by its own package database."""

from pathlib import Path

import pytest

from polyglot_platform import debian
from polyglot_platform.components import DEBIAN_NODE, DEBIAN_PYTHON


@pytest.mark.parametrize(("package", "installed"), [("libc6", True), ("no-such-package", False)])
def test_a_package_is_found_by_its_status(package: str, installed: bool) -> None:
    assert debian.is_installed(package) is (installed and Path("/var/lib/dpkg/status").exists())


def test_each_root_file_system_has_a_key_of_its_own() -> None:
    assert debian.key(DEBIAN_NODE) != debian.key(DEBIAN_PYTHON)
