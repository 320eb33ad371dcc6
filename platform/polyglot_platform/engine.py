"""The Docker engine: the one that runs, or one we install and start where we may.

kind needs an engine; a fresh Debian machine has none. An engine we started is ours to
stop (`engine-stop`), known by the pid file in the cache; any other is never touched.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from polyglot_platform.debian import install_on_host
from polyglot_platform.errors import PlatformError
from polyglot_platform.places import Places
from polyglot_platform.process import succeeds
from polyglot_platform.progress import Progress

CAP_SYS_RESOURCE = 24
"""Bit of the capability in the masks of /proc/PID/status (linux/capability.h)."""

START_SECONDS = 60
STOP_SECONDS = 30


def ensure(places: Places, progress: Progress) -> None:
    """Return when an engine answers."""
    if answers():
        return
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        raise PlatformError(
            "no Docker engine answers, and only root on Debian can start one from here",
            "install Docker Engine (docs.docker.com/engine/install), start it, and see that `docker info` works",
        )
    log = places.engine / "dockerd.log"
    places.engine.mkdir(parents=True, exist_ok=True)
    with progress.step("docker engine", "started"):
        for package in ("docker.io", "iptables", "jq"):
            install_on_host(package, log)
        if not answers():  # a package with an init system behind it starts the engine itself
            _start(places, log)


def answers() -> bool:
    """Whether a Docker engine is reachable."""
    return succeeds(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10)


def stop(places: Places, progress: Progress) -> None:
    """Stop the engine if we started it; a person's own engine keeps running."""
    pid = _our_engine(places)
    if pid is None:
        progress.say("docker engine", "not started by us: left alone")
        return
    with progress.step("docker engine", "stopped"):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _our_engine(places) is not None:
            if time.monotonic() > deadline:
                raise PlatformError(
                    f"the Docker engine (pid {pid}) did not stop within {STOP_SECONDS} s",
                    f"see {places.engine / 'dockerd.log'}; end it with `kill -9 {pid}`",
                )
            time.sleep(0.1)


def lacks_capability(status: str, bit: int = CAP_SYS_RESOURCE) -> bool:
    """Whether the text of /proc/PID/status has a bounding set without this capability."""
    for line in status.splitlines():
        name, _, mask = line.partition(":")
        if name == "CapBnd":
            return not int(mask.strip(), 16) & (1 << bit)
    return False


def _start(places: Places, log: Path) -> None:
    if (pid := _our_engine(places)) is not None:
        raise PlatformError(
            f"the Docker engine that was started here (pid {pid}) runs and does not answer",
            f"read {log}; if it hangs, end it with `kill -9 {pid}` and run this again",
        )
    _pid_file(places).unlink(missing_ok=True)  # of a killed engine: dockerd refuses to start over it
    command = ["dockerd", f"--pidfile={_pid_file(places)}"]
    if lacks_capability(Path("/proc/self/status").read_text()):
        runtime = places.platform / "engine" / "runc-bounded"
        bounded = places.engine / runtime.name
        bounded.write_bytes(runtime.read_bytes())  # the engine outlives the checkout
        bounded.chmod(0o755)
        command += [f"--add-runtime=bounded={bounded}", "--default-runtime=bounded"]
    with log.open("a") as sink:
        engine = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if engine.poll() is not None or time.monotonic() > deadline:
            reason = "\n".join(f"    {line}" for line in log.read_text().splitlines()[-10:])
            raise PlatformError(f"dockerd did not come up:\n{reason}", f"read {log}, correct the cause, run this again")
        time.sleep(0.1)


def _our_engine(places: Places) -> int | None:
    """The pid of the engine that we started, while it runs under our pid file."""
    pid_file = _pid_file(places)
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if f"--pidfile={pid_file}" in command else None


def _pid_file(places: Places) -> Path:
    return places.engine / "dockerd.pid"
