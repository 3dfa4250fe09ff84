"""How many cores a process may use, by real bindings and by control groups as Linux writes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from femae import cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_bound_to_one_core_uses_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from femae import Predictor; print(Predictor().num_threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        ("0::/", {"cpu.max": "100000 0"}, 8),
        ("nonsense", {"cpu.max": "200000 100000"}, 2),
        ("0::/ä", {"ä/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"cpu.max": "100000 100000", "a/b/cpu.max": "400000 100000"}, 1),
        (
            "12:pids:/x\n4:cpu,cpuacct:/docker/c\n0::/",
            {
                "cpu,cpuacct/docker/c/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/docker/c/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            3,
        ),
    ],
)
def test_limits_of_containers(
    own: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text(own + "\n", "utf-8")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.num_cores() == expected


def test_elsewhere_all_cores_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_OWN_GROUPS", tmp_path / "absent")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores.num_cores() == (os.cpu_count() or 1)
