"""The README's first command, as a new user would run it: a fresh environment, the base install, the main job."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent.parent


def set_up_commands() -> list[str]:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return [line for line in block[1].splitlines() if line and not line.startswith("#")]


@pytest.mark.timeout(900)
def test_the_readmes_first_command_sets_up_and_runs_the_main_job(tmp_path: Path) -> None:
    first, second = set_up_commands()
    assert second == "scripts/test"
    subprocess.run(["git", "clone", "--quiet", str(REPO), str(tmp_path / "femae")], check=True)
    first = first.replace("python3", sys.executable)
    environment = os.environ | {"PIP_COMPILE": "0"}  # compiling all that is installed takes longer than what is used
    done = subprocess.run(
        first, shell=True, cwd=tmp_path / "femae", capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "120 frames (120 with a face" in done.stdout or "120 frames (11" in done.stdout
    out = tmp_path / "femae" / "femae-out"
    assert sorted(path.name for path in out.iterdir()) == [
        "carphone_pristine.annotated.mp4",
        "carphone_pristine.csv",
        "run.journal",
        "run.json",
    ]
    listed = subprocess.run(
        [tmp_path / "femae" / ".venv" / "bin" / "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "torch" not in listed
