"""What is built for a release is whole, says what it is, and its documents name its version."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import femae

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(REPO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    assert path.name == f"femae-{femae.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names} == {"femae", f"femae-{femae.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    tracked = subprocess.run(
        ["git", "ls-files", "src/femae"], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert {name.removeprefix("src/") for name in tracked if name} <= names
    assert "femae/py.typed" in names and "femae/weights/model.onnx" in names


def test_the_metadata_are_complete(wheel: zipfile.ZipFile) -> None:
    stem = f"femae-{femae.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{stem}/METADATA"))
    assert metadata["Version"] == femae.__version__ and metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Description-Content-Type"] == "text/markdown"
    classifiers = metadata.get_all("Classifier", [])
    for minor in range(11, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in base if re.match(r"torch|opencv|scipy", line)]
    assert b"femae = femae.cli:main" in wheel.read(f"{stem}/entry_points.txt")


def test_the_changelog_has_a_section_of_this_version() -> None:
    text = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[:2] == ["Unreleased", femae.__version__]
    dated = re.search(rf"^## {re.escape(femae.__version__)} - (\d{{4}}-\d\d-\d\d)$", text, re.MULTILINE)
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert dated is not None and cited["date-released"].isoformat() == dated[1]
