"""One page as one file: template, style, script and data in one HTML text that asks for nothing from anywhere.

Texts are escaped by Jinja; data travel as JSON in which no character can end the script element. The Content-Security-
Policy lets only this page's own script run (by its hash) and forbids every request over the network.
"""

import base64
import gzip
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae import __version__
from femae.errors import MissingDependencyError, OutputError

__all__ = ["Page", "data_uri", "jpeg_uri", "require_report", "safe_json", "write_page", "zipped"]

_POLICY: Final = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data: blob:; base-uri 'none'; form-action 'none'"
)
_ESCAPES: Final = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'\u2028\u2029"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one page holds. `values` go to the template and are escaped there; `blobs` are base64 texts by id."""

    template: str
    title: str
    subtitle: str = ""
    scripts: tuple[str, ...] = ("common.js",)
    values: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None
    blobs: Mapping[str, str] = field(default_factory=dict)
    downloads: tuple[dict[str, str], ...] = ()  # id of the blob (gzip), name of the file, word for the button
    about: tuple[dict[str, Any], ...] = ()  # name, text, rows of (key, value)
    problems: tuple[str, ...] = ()


def require_report() -> None:
    """Raise MissingDependencyError, before any long work, when a package that reports need is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs the package jinja2, which is not installed: pip install 'femae[report]'"
        ) from error


def safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<`, `>`, `&`, quote `'` or line separator; NaN becomes null."""
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
    """u8[H, W, 3] RGB as a data URI."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=quality, optimize=True)
    return data_uri(file.getvalue(), kind="image/jpeg")


def zipped(content: bytes) -> str:
    """gzip in base64; equal content gives equal text."""
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
    """Write the page under a temporary name, then give it its own. Raises OutputError."""
    text = _render(page)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"the report '{path}' cannot be written: {error.strerror or error}") from error
    return path
