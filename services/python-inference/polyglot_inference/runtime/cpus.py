"""How many CPUs this process may use."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs by affinity, bounded by the container's CPU limit rounded up; at least 1.

    Sized to the host instead, a thread pool in a container with a limit of one CPU spends its quota in the first
    milliseconds of every period and is throttled for the rest. Source: cgroup v2 `cpu.max` and v1 `cpu.cfs_quota_us`,
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    affinity = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """The limit in CPUs, or None where there is none."""
    try:
        limit, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except FileNotFoundError:
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
    return None if limit in {"max", "-1"} else int(limit) / int(period)
