"""How many cores there are for this process: in a container, or under a scheduler, often fewer than the machine has."""

import math
import os
from pathlib import Path
from typing import Final

__all__ = ["num_cores"]

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")


def num_cores() -> int:
    """Cores that this process may use, 1 or more: those it is bound to, and on Linux no more than its control groups
    allow (`docker run --cpus`, limits of Kubernetes and SLURM), where a part of a core counts as one."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _quota(_GROUPS, _OWN_GROUPS))))


def _quota(groups: Path, own_groups: Path) -> float:
    """The least share of time, in cores, of this process's control groups and those around them; inf: no limit."""
    try:
        lines = own_groups.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups  # version 1 has a tree for each set of controllers
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            least = min(least, _limit_of(group))
            if group == root:
                break
    return least


def _limit_of(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text("ascii").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # there is none, or it says "max"
        return math.inf
