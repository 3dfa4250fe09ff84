"""Converts the notebooks to Markdown pages with their stored outputs. Run by scripts/site in build/pages."""

import base64
import re
import sys
from pathlib import Path

import nbformat


def page_of(path: Path) -> str:
    """A notebook as Markdown; its pictures are written beside it."""
    parts = [f"*This page is the notebook [{path.name}]({path.name}) as it ran.*"]
    pictures = 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", cell.source))
            continue
        language = "bash" if cell.source.startswith("%%bash") else "python"
        parts.append(_fenced(re.sub(r"^%%bash\n", "", cell.source), language))
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                name = f"{path.stem}-{pictures}.png"
                (path.parent / name).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![output of the cell above]({name})")
            elif "text" in output or "text/plain" in data:
                parts.append(_fenced(output.get("text") or data["text/plain"], "text"))
    return "\n\n".join(parts) + "\n"


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


if __name__ == "__main__":
    pages = Path(sys.argv[1])
    for notebook in (pages / "docs" / "notebooks").glob("*.ipynb"):
        notebook.with_suffix(".md").write_text(page_of(notebook), encoding="utf-8")
    for page in pages.rglob("*.md"):  # on the site, links to notebooks lead to their pages
        text = page.read_text(encoding="utf-8")
        if page.parent.name != "notebooks":
            page.write_text(re.sub(r"(\]\([\w/.]*notebooks/\w+)\.ipynb", r"\1.md", text), encoding="utf-8")
