"""Pictures of a run for TensorBoard, from its tables."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw

from femae.labels import EMOTIONS
from femae.metrics.f1 import confusion
from femae.metrics.hard_labels import top_emotion

__all__ = ["confusion_picture", "reconstruction_picture"]

_CELL = 48


def reconstruction_picture(table: pa.Table) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3]: one column per face, from above masked, reconstructed, original."""
    rows = []
    for name in ("masked", "reconstructed", "original"):
        column: Any = table.column(name)
        pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in column.to_pylist()]
        rows.append(np.concatenate(pictures, 1))
    return np.concatenate(rows, 0)


def confusion_picture(table: pa.Table) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3]: rows true emotions, columns predicted ones, shares of each row in percent."""
    columns: Any = {name: np.asarray(table.column(name).to_numpy(), np.float32) for name in EMOTIONS}
    probs = np.stack([columns[name] for name in EMOTIONS], 1)
    raw = np.stack([np.asarray(table.column(f"target_{name}").to_numpy(), np.float32) for name in EMOTIONS], 1)
    top = top_emotion(np.nan_to_num(raw), mask=~np.isnan(raw))
    counts = confusion(probs[top >= 0].argmax(1), true=top[top >= 0], num_classes=len(EMOTIONS))[:, :-1]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = _CELL * (len(EMOTIONS) + 1)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    for i, name in enumerate(EMOTIONS):
        draw.text((2, _CELL * (i + 1) + 18), name[:7], fill="black")
        draw.text((_CELL * (i + 1) + 2, 18), name[:7], fill="black")
        for j, share in enumerate(shares[i].tolist()):
            corner = (_CELL * (j + 1), _CELL * (i + 1))
            level = round(255 * (1 - share))
            draw.rectangle((*corner, corner[0] + _CELL, corner[1] + _CELL), fill=(level, level, 255), outline="gray")
            draw.text((corner[0] + 12, corner[1] + 18), f"{100 * share:.0f}", fill="white" if share > 0.5 else "black")
    return np.asarray(picture)
