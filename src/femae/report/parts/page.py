"""A page as a single HTML file with template, style, script and data, which loads nothing from outside.

Jinja escapes all texts; data are JSON in which no character can end the script element. The Content-Security-Policy
allows only the page's own script (by its hash) and forbids every network request. The last section of a page has the
settings, a summary of the model card, and versions.
"""

import base64
import gzip
import hashlib
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae import __version__
from femae.errors import MissingDependencyError, OutputError
from femae.files import replacing
from femae.types import LabelView

__all__ = [
    "Page",
    "about_parts",
    "data_uri",
    "jpeg_uri",
    "page_section",
    "require_report",
    "safe_json",
    "write_page",
    "zipped",
]

_POLICY: Final = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data: blob:; base-uri 'none'; form-action 'none'"
)
_ESCAPES: Final = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'\u2028\u2029"}
_PACKAGES = ("numpy", "av", "onnxruntime", "pyarrow", "pillow")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageOptions:
    """Options of a page of predictions."""

    title: str = ""  # empty: the name of the film or table
    labels: LabelView = "expression"  # which label is shown
    max_mb: float = 24.0  # size of the page, millions of bytes; film and pictures are compressed to fit
    settings: Mapping[str, str] = field(default_factory=dict)  # metadata for a table without any (CSV)
    problems: Sequence[str] = ()  # sentences to show at the top


DEFAULT_PAGE: Final = PageOptions()


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a page. The template receives and escapes `values`; `blobs` are base64 texts by id."""

    template: str
    title: str
    subtitle: str = ""
    scripts: tuple[str, ...] = ("common.js",)
    values: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    blobs: Mapping[str, str] = field(default_factory=dict)
    downloads: tuple[dict[str, str], ...] = ()  # id of the gzip blob, file name, button text
    about: tuple[dict[str, Any], ...] = ()  # each with name, text, rows of (key, value)
    problems: tuple[str, ...] = ()


def page_section(name: str, **parts: Any) -> dict[str, Any]:
    """A section of a page without a film; parts: text, figures, tables, faces."""
    return {"name": name, "text": "", "figures": [], "tables": [], "faces": []} | parts


def sections_page(
    title: str,
    *,
    subtitle: str,
    sections: Sequence[Mapping[str, Any]],
    about: Sequence[dict[str, Any]] = (),
    problems: Sequence[str] = (),
) -> Page:
    """A page of consecutive sections; empty ones are left out."""
    filled = [section for section in sections if any(section[key] for key in ("text", "figures", "tables", "faces"))]
    return Page(
        template="run.html.j2",
        title=title,
        subtitle=subtitle,
        scripts=("common.js", "static.js"),
        values={"sections": filled},
        about=tuple(about),
        problems=tuple(problems),
    )


def require_report() -> None:
    """Raises MissingDependencyError, before any long work, if jinja2 is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs the package jinja2, which is not installed: pip install 'femae[report]'"
        ) from error


def safe_json(value: Any) -> str:
    """JSON for a script element: `<`, `>`, `&`, `'` and line separators are escaped; NaN becomes null."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def data_uri(content: bytes, *, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_uri(picture: npt.NDArray[np.uint8], *, quality: int = 80) -> str:
    """A picture u8[H, W, 3] RGB as a JPEG data URI."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=quality, optimize=True)
    return data_uri(file.getvalue(), kind="image/jpeg")


def zipped(content: bytes) -> str:
    """gzip in base64; equal content gives equal output."""
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode()


def _asset(name: str) -> str:
    return (resources.files("femae.report") / "assets" / name).read_text(encoding="utf-8")


def _render(page: Page) -> str:
    require_report()
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(_asset),
    )
    script = "\n(() => {" + "\n".join(_asset(name) for name in page.scripts) + "})();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(page.template).render(
        title=page.title,
        subtitle=page.subtitle,
        version=__version__,
        policy=_POLICY.format(digest=digest),
        css=Markup(_asset("page.css")),
        script=Markup(script),
        data=None if page.data is None else Markup(safe_json(page.data)),
        blobs=page.blobs,
        downloads=page.downloads,
        about=page.about,
        problems=page.problems,
        **page.values,
    )


def write_page(path: Path, page: Page) -> Path:
    """Write the page, atomically. Raises OutputError, MissingDependencyError."""
    text = _render(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise OutputError(f"the report '{path}' cannot be written: {error.strerror or error}") from error
    return path


def about_parts(settings: Mapping[str, str], *, inputs: Sequence[tuple[str, str]] = ()) -> tuple[dict[str, Any], ...]:
    """The section on settings and versions; `settings`: metadata of a table, `inputs`: pairs of name and value."""
    known = {
        key: value
        for key, value in settings.items()
        if key in ("model", "detection", "rules", "expression", "compounds")
    }
    parts: list[dict[str, Any]] = []
    if known:
        parts.append({"name": "Settings", "text": "", "rows": _setting_rows(known)})
    else:
        text = (
            "The table does not record its settings: CSV and JSON lines have no place for them. A Parquet table, or "
            "--report with femae predict, does."
        )
        parts.append({"name": "Settings", "text": text, "rows": []})
    card = _card_summary(settings.get("model", ""))
    if card:
        parts.append({"name": "The model's card, in short", "text": card, "rows": []})
    rows = [*inputs, ("page made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))]
    made_with = settings.get("femae_version", "")
    if made_with and made_with != __version__:
        rows.append(("table made by", f"femae {made_with}"))
    rows.append(("femae", __version__))
    rows += [(name, metadata.version(name)) for name in _PACKAGES]
    rows.append(("Python", platform.python_version()))
    parts.append({"name": "Files and versions", "text": "", "rows": rows})
    return tuple(parts)


def _setting_rows(settings: Mapping[str, str]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        try:
            inner = json.loads(value) if value.startswith("{") else None
        except ValueError:
            inner = None
        if key == "expression" and isinstance(inner, dict):
            rows.append((key, str(inner.get("rule", ""))))
        elif isinstance(inner, dict):
            rows += [(str(name).replace("_", " "), _format_value(item)) for name, item in inner.items()]
        else:
            rows.append((key, value))
    return rows


def _format_value(value: Any) -> str:
    if value is None or value == "":
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _card_summary(model: str) -> str:
    """First paragraph and limits from the card of the shipped model; empty for any other model."""
    card = resources.files("femae") / "weights" / "MODEL_CARD.md"
    if not model or not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    if model.split()[0] not in title:
        return ""
    first = rest.strip().split("\n\n")[0].replace("\n", " ").replace("`", "")
    limits = text.partition("\n## Limits")[2].partition("\n## ")[0].strip()
    points = [" ".join(point.split()) for point in limits.split("\n- ")]
    points = ["- " + point.removeprefix("- ") for point in points if point]
    return first + ("\n\nLimits:\n" + "\n".join(points) if points else "")
