"""Reports a run while it trains: a progress bar, log.jsonl, TensorBoard with pictures of its tables, MLflow."""

import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from femae.config.train import RunConfig
from femae.errors import MissingDependencyError
from femae.labels import EMOTIONS
from femae.metrics.f1 import confusion
from femae.metrics.hard_labels import top_emotion
from femae.training.loop.run_folder import RunFolder

__all__ = [
    "Monitor",
    "confusion_picture",
    "reconstruction_picture",
]


def _flatten(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Nested mappings of numbers as {"outer/inner": number}; other values are left out."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[f"{prefix}{name}"] = float(value)
    return flat


class Monitor:
    """Context manager for the duration of a run; writes only if the run folder does."""

    def __init__(self, folder: RunFolder, config: RunConfig, *, title: str, steps: int, quiet: bool = False) -> None:
        self._folder, self._title, self._steps = folder, title, steps
        self._board: Any = None
        self._mlflow: Any = None
        self._console = Console(stderr=True, quiet=quiet or not folder.writes)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=steps, rate="")
        if folder.writes and config.tensorboard and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder.path / "tensorboard"))
        if folder.writes and config.mlflow:
            self._mlflow = _start_mlflow(config.mlflow, title)

    def __enter__(self) -> "Monitor":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()
        if self._mlflow is not None:
            self._mlflow.end_run(status="FAILED" if exception[0] else "FINISHED")

    def step(self, step: int) -> None:
        """Update the progress bar after a step; it is redrawn a few times a second."""
        if not self._progress.disable:
            self._progress.update(self._task, completed=step)

    def print(self, text: str) -> None:
        """Print a line to the console."""
        self._console.print(text, highlight=False, markup=False)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry to log.jsonl and send its numbers to the progress bar, TensorBoard and MLflow."""
        self._folder.log(entry)
        step = int(entry["step"])
        if entry["kind"] == "step":
            description, rate = f"{self._title} loss {entry['loss']:.4f}", f"{entry['pictures_per_s']:.0f} pictures/s"
            self._progress.update(self._task, completed=step, description=description, rate=rate)
        numbers = _flatten({k: v for k, v in entry.items() if k not in ("kind", "step")}, f"{entry['kind']}/")
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._mlflow is not None:
            self._mlflow.log_metrics(numbers, step=step)
        if entry["kind"] == "epoch":
            val = entry["val"]
            named = [f"{k} {val[k]:.4f}" for k in ("loss", "macro_f1", "compound_macro_f1") if val.get(k) is not None]
            self._console.print(f"epoch {entry['epoch']}: loss {entry['loss']:.4f}, validation {', '.join(named)}")

    def tables(self, tables: Mapping[str, pa.Table], *, step: int) -> None:
        """Send pictures of tables to TensorBoard: reconstructions of masked faces, confusion matrix of scores."""
        if self._board is None:
            return
        for name, table in tables.items():
            if name == "reconstructions.parquet":
                self._board.add_image("reconstructions", reconstruction_picture(table), step, dataformats="HWC")
            elif "surprise" in table.column_names:
                self._board.add_image("confusion", confusion_picture(table), step, dataformats="HWC")


def _start_mlflow(address: str, title: str) -> Any:
    try:
        import mlflow
    except ImportError:
        raise MissingDependencyError(
            "run.mlflow needs the package mlflow or mlflow-skinny: install it, or leave run.mlflow empty"
        ) from None
    mlflow.set_tracking_uri(address)
    mlflow.start_run(run_name=title)
    return mlflow


_CELL = 48  # pixels


def reconstruction_picture(table: pa.Table) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3]: one column per face; from top to bottom masked, reconstructed, original."""
    rows = []
    for name in ("masked", "reconstructed", "original"):
        column: Any = table.column(name)
        pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in column.to_pylist()]
        rows.append(np.concatenate(pictures, 1))
    return np.concatenate(rows, 0)


def confusion_picture(table: pa.Table) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3]: confusion matrix; rows are true emotions, columns predicted ones, cells percent of their row."""
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
