"""Runs the notebooks of docs/notebooks and stores them with their outputs: python scripts/notebooks.py [NAME ...]."""

import base64
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
_CELL_TIMEOUT_S = 600


def run_notebook(path: Path, folder: Path) -> Any:
    """The notebook after a run from top to bottom in `folder`. Raises nbclient's error for a cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    for helper in path.parent.glob("*.py"):
        shutil.copy(helper, folder)
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = os.environ | {"PATH": search, "TTY_COMPATIBLE": "0"}  # no progress bars in the stored outputs
    client = NotebookClient(
        notebook, timeout=_CELL_TIMEOUT_S, resources={"metadata": {"path": str(folder)}}, store_widget_state=False
    )
    client.execute(env=commands)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _join_streams(cell.outputs)
    return notebook


def texts_of(notebook: Any) -> str:
    """The text of all outputs of a notebook's cells."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in outputs)


def tidy(notebook: Any, folder: Path) -> None:
    """Remove what differs between runs (metadata, paths of this machine), and compress pictures, in place."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            if "text" in output:
                output["text"] = re.sub(rf"{re.escape(str(folder))}/|/\S*/ipykernel_\d+/", "", output["text"])
            output.get("data", {}).pop("image/jpeg", None)  # a second copy of a Pillow picture
            picture = output.get("data", {}).get("image/png")
            if picture is not None:
                output["data"]["image/png"] = _quantize(picture)


def _join_streams(outputs: list[Any]) -> list[Any]:
    """The outputs with consecutive pieces of one stream joined."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _quantize(png_base64: str) -> str:
    """The picture with at most 64 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(png_base64))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(64).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def main(names: list[str]) -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = run_notebook(path, Path(folder))
            tidy(notebook, Path(folder))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
