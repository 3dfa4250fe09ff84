"""The last section of a page: settings, what the model's card says, versions."""

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from typing import Any

from femae import __version__

__all__ = ["about_parts"]

_PACKAGES = ("numpy", "av", "onnxruntime", "pyarrow", "pillow")


def about_parts(settings: Mapping[str, str], *, inputs: Sequence[tuple[str, str]] = ()) -> tuple[dict[str, Any], ...]:
    """Parts for the page: `settings` is the metadata of a table of predictions, `inputs` name and value."""
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
            "The table does not tell its settings: CSV and JSON lines have no place for them. "
            "A Parquet table, or --report with femae predict, has them."
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
            rows += [(str(name).replace("_", " "), _word(item)) for name, item in inner.items()]
        else:
            rows.append((key, value))
    return rows


def _word(value: Any) -> str:
    if value is None or value == "":
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _card_summary(model: str) -> str:
    """First paragraph and limits of the shipped model's card, if that is the model; else nothing."""
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
