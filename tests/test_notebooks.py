"""The notebooks of the documentation are stored as they ran, run again from top to bottom, and find what they say."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs femae[dev]")
pytest.importorskip("nbclient", reason="needs femae[dev]")

REPO = Path(__file__).resolve().parent.parent
_SPEC = importlib.util.spec_from_file_location("notebooks", REPO / "scripts" / "notebooks.py")
assert _SPEC is not None and _SPEC.loader is not None
notebooks = importlib.util.module_from_spec(_SPEC)
sys.modules["notebooks"] = notebooks
_SPEC.loader.exec_module(notebooks)

PATHS = sorted(notebooks.FOLDER.glob("*.ipynb"))
FOUND = {  # what the outputs hold, stored and anew
    "analysis": (r"120 frames", r"surprise", r"0\.1[0-9]* \(0\.1[0-9]* to 0\.1[0-9]*\), 20 people"),
    "data_source": (r"23 samples, left out: \{'too few raters': 1\}", r"23 faces", r"again: nothing to do", r"fold 1:"),
    "detector_engine": (r"overlap \(IoU\) .* 0\.[89]", r"same expression on (1\.00|0\.9\d)", r"both hold"),
    "predict": (r"84 frames \(84 with a face", r"-> results/clip\.csv", r"sadness", r"^happiness \(\d"),
    "train": (r"144 faces of 144 samples", r"checkpoint-best", r"mine\.onnx", r"(0\.[3-9]\d|1\.00) of 60 new faces"),
}
HAS_PICTURE = {"analysis", "predict", "train"}


def check(notebook: object, name: str) -> None:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    said = notebooks.texts_of(notebook)
    for pattern in FOUND[name]:
        assert re.search(pattern, said, re.MULTILINE), pattern
    assert name not in HAS_PICTURE or any("image/png" in output.get("data", {}) for output in outputs)


def test_each_notebook_is_known() -> None:
    assert [path.stem for path in PATHS] == sorted(FOUND)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_stored_as_it_ran_small_and_without_traces_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    check(notebook, path.stem)
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000 and "/tmp/" not in text and "/home/" not in text and "\\u001b[" not in text


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_runs_and_finds_what_it_says(path: Path, tmp_path: Path) -> None:
    check(notebooks.run_notebook(path, tmp_path), path.stem)
