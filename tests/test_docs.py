"""Every command and every Python example of README and docs runs."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from femae.cli import main

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match[1] == language:
                line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


def commands() -> list[Any]:
    """Lines that start with femae; set-up lines have tests of their own (tests/e2e/test_install.py)."""
    found = []
    for block in blocks("bash"):
        for line in block.values[0].splitlines():
            if line.startswith("femae "):
                found.append(pytest.param(line.split("  #")[0], id=f"{block.id} {line[:50]}"))
    return found


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carphone: Path, astronaut: np.ndarray) -> Path:
    """A folder with the files that the pages speak of."""
    shutil.copy(carphone, tmp_path / "clip.mp4")
    for folder in ("photos", "crops"):
        (tmp_path / folder).mkdir()
    Image.fromarray(astronaut).save(tmp_path / "photo.jpg")
    Image.fromarray(astronaut).save(tmp_path / "photos" / "a.png")
    Image.fromarray(astronaut[60:190, 160:290]).save(tmp_path / "crops" / "b.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", commands())
def test_command_runs(line: str, workplace: Path) -> None:
    program, *arguments = shlex.split(line)
    assert program == "femae"
    assert main(arguments) == 0


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example_runs(code: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_the_pages_name_no_option_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    text = (REPO / "docs" / "usage.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z][a-z-]+", text)) - known == set()


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
