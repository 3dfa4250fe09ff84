"""The site is built with every link checked, and documents the names that programs may rely on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="needs femae[dev]")
pytest.importorskip("mkdocstrings", reason="needs femae[dev]")

import femae

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site is made of, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site") / "femae"
    no_weights = shutil.ignore_patterns("*.onnx", "*.safetensors", "__pycache__")
    for name in ("docs", "deploy", "benchmarks/results", "scripts", "src"):
        shutil.copytree(REPO / name, folder / name, ignore=no_weights)
    for path in (*REPO.glob("*.md"), REPO / "mkdocs.yml", REPO / "CITATION.cff", REPO / "LICENSE"):
        shutil.copy(path, folder)
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FEMAE_VENV": sys.prefix, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        ["bash", "scripts/site"], cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_it_is_whole_and_loads_nothing_from_elsewhere(copy: Path) -> None:
    done = build(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    site = copy / "build/site"
    reference = (site / "docs/reference.html").read_text(encoding="utf-8")
    for name in femae.__all__:
        assert name.startswith("__") or f">{name}</span>" in reference, name
    assert "Raises InputError when the input cannot be read" in reference
    notebook = (site / "docs/notebooks/predict.html").read_text(encoding="utf-8")
    assert "84 frames" in notebook and (site / "docs/notebooks/predict-1.png").stat().st_size > 1000
    assert "Play" in (site / "docs/gallery/drawn-film.html").read_text(encoding="utf-8")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="https?://', text), page.name


def test_a_link_that_leads_nowhere_fails(copy: Path) -> None:
    page = copy / "docs/paper.md"
    whole = page.read_text(encoding="utf-8")
    page.write_text(whole + "\n[gone](gone.md)\n", encoding="utf-8")
    try:
        done = build(copy)
    finally:
        page.write_text(whole, encoding="utf-8")
    assert done.returncode != 0 and "gone.md" in done.stdout + done.stderr
