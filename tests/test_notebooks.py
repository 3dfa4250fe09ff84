"""The notebooks of the documentation run from top to bottom, and find what their text says."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs femae[dev]")
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are made, not kept"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    ]
    said = "\n".join(texts)
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", ()))
    if path.stem == "analysis":
        assert "120 frames" in said and "surprise" in said and "20 people" in said
        effect = float(said[said.index("0.1") : said.index(", 20 people")].split(" ")[0])
        assert 0.1 < effect < 0.2
        assert any(
            "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())
        )
