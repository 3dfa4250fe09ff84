"""Number of cores available to this process, which containers and schedulers may limit."""

import math
import os
from pathlib import Path
from typing import Final

__all__ = ["num_cores"]

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")


def num_cores() -> int:
    """Number of cores that this process may use, at least 1.

    It is limited by the CPU affinity and, on Linux, by the quota of the control groups (`docker run --cpus`, limits of
    Kubernetes and SLURM), rounded up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, _quota())))


def _quota() -> float:
    """The smallest CPU quota, in cores, of this process's control groups and their parents; inf without a limit."""
    try:
        lines = _OWN_GROUPS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _GROUPS / controllers  # cgroup v1 has a tree for each set of controllers
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            least = min(least, _limit_of(group))
            if group == root:
                break
    return least


def _limit_of(group: Path) -> float:
    """CPU quota of one control group (v2 or v1), in cores."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text("ascii").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or the quota is "max"
        return math.inf
