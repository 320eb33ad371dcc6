"""Debian packages: on this host, and as root file systems for images."""

import os
from pathlib import Path

from polyglot_platform import pins
from polyglot_platform.components import Rootfs
from polyglot_platform.digest import digest
from polyglot_platform.errors import PlatformError
from polyglot_platform.process import run

HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Builds inside images must trust what the host trusts: registries may sit behind a proxy with its own authority."""

APT = {"DEBIAN_FRONTEND": "noninteractive"}


def key(rootfs: Rootfs) -> str:
    """The content hash of a root file system's recipe."""
    certificates = HOST_CERTIFICATES.read_text() if HOST_CERTIFICATES.exists() else ""
    return digest(repr(rootfs), pins.DEBIAN, certificates)


def build(rootfs: Rootfs, target: Path, log: Path) -> None:
    """Write `rootfs.tar` into `target`."""
    install_on_host("mmdebstrap", log)
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(rootfs.packages)}"]
    if HOST_CERTIFICATES.exists():
        command.append(f"--customize-hook=copy-in {HOST_CERTIFICATES} {HOST_CERTIFICATES.parent}")
    run([*command, pins.DEBIAN, str(target / "rootfs.tar")], log=log)


def install_on_host(package: str, log: Path) -> None:
    """Install a Debian package where it is missing and we may."""
    if is_installed(package):
        return
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise PlatformError(
            f"`{package}` is not installed, and only root on Debian can install it from here",
            f"install `{package}` with your system's package manager, then run this again",
        )
    run(["apt-get", "update"], env=APT, log=log)
    run(["apt-get", "install", "--yes", "--no-install-recommends", package], env=APT, log=log)


def is_installed(package: str) -> bool:
    """Whether the package is there, which one that was removed but left its configuration is not."""
    try:
        status = run(["dpkg-query", "--show", "--showformat=${db:Status-Status}", package])
    except PlatformError:  # unknown to dpkg, or no dpkg: both mean that we did not find it
        return False
    return status == "installed"
