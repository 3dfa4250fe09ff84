"""The small files of a run's folder: settings, versions, data and log; readable while training."""

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from femae import __version__
from femae.config.base import Config
from femae.errors import OutputError
from femae.files import replacing
from femae.training.loader.sets import FaceSet

__all__ = ["RunFolder", "data_fingerprint", "fingerprint", "git_revision", "write_text"]

_PACKAGES: Final = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pyarrow", "safetensors")


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically. Raises OutputError when that fails."""
    try:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error}): free some space, or choose another --out") from error


def fingerprint(value: object) -> str:
    """16 hex digits: a hash of a JSON-serialisable value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def git_revision(folder: Path) -> str | None:
    """The git revision of the source tree around `folder`, with `+changes` if files differ; None outside of git."""
    try:
        head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        state = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if state.stdout.strip() else "")


def data_fingerprint(train: FaceSet, val: FaceSet) -> str:
    """16 hex digits: a hash of the shards, of the selected rows and of their labels."""
    digest = hashlib.sha256()
    for reader in train.readers:
        digest.update("".join(shard.sha256 for shard in reader.manifest.shards).encode())
    for part in (train, val):
        edges = np.array(part.edges(), np.int64)
        for rows in part.rows.chunks():
            digest.update((np.searchsorted(edges, rows, side="right") - 1).astype(np.int32).tobytes())
        for rows in part.rows.chunks():
            digest.update((rows - edges[np.searchsorted(edges, rows, side="right") - 1]).tobytes())
        for name in ("targets", "mask", "au_targets", "au_mask"):
            for chosen in part.row_chunks(1 << 16):
                digest.update(getattr(part, name)[chosen].tobytes())
    return digest.hexdigest()[:16]


class RunFolder:
    """Writes the small files of one run; on all processes but the first, `writes` is False and nothing is written.

    Raises OutputError when the folder cannot be made.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if writes:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"the run folder {path} cannot be made ({error}): choose another --out") from error

    def describe(self, config: Config, *, train: FaceSet, val: FaceSet, num_params: int, start: object) -> None:
        """Write config.yaml and run.json."""
        if not self.writes:
            return
        settings = config.model_dump(mode="json")
        ordered = {"stage": settings.pop("stage")} | settings
        write_text(self.path / "config.yaml", yaml.safe_dump(ordered, sort_keys=False))
        about = {
            "femae": __version__,
            "git": git_revision(Path(__file__).parent),
            "versions": {name: _version(name) for name in _PACKAGES},
            "stage": ordered["stage"],
            "num_params": num_params,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": {
                "fingerprint": data_fingerprint(train, val),
                "folders": [reader.manifest.folder.name for reader in train.readers],
                "num_train": len(train),
                "num_val": len(val),
            },
            "start": start,
        }
        write_text(self.path / "run.json", json.dumps(about, indent=2) + "\n")

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append a line to log.jsonl. Raises OutputError when it cannot be written."""
        if not self.writes:
            return
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self.path / 'log.jsonl'} cannot be written ({error}); the last state is intact: free some space "
                f"and run the same command again, it resumes from there"
            ) from error

    def forget_after(self, step: int) -> None:
        """Remove the lines of later steps, and an incomplete line, from log.jsonl before a run resumes at `step`."""
        path = self.path / "log.jsonl"
        if not self.writes or not path.is_file():
            return
        kept = [line for line in _read_lines(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """The lines of log.jsonl of one kind."""
        path = self.path / "log.jsonl"
        return [line for line in _read_lines(path) if line["kind"] == kind] if path.is_file() else []


def _read_lines(path: Path) -> Sequence[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # the line that was being written when the run was killed
            continue
    return lines


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
