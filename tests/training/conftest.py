"""Folders of shards with drawn faces, whose labels can be learned from their pixels."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs femae[train]")
pytest.importorskip("lightning_fabric", reason="needs femae[train]")

from femae.data.folds import Folds, write_folds
from femae.data.store.manifest import ShardFile, file_sha256, read_manifest, write_manifest
from femae.data.store.shards import ACTION_UNITS, ShardSample, ShardWriter, shard_path
from femae.data.targets import label_targets, vote_targets
from femae.labels import ABAW_COMPOUNDS, EMOTIONS

SIZE = 32


def draw_face(emotion: int, rng: np.random.Generator, *, second: int | None = None) -> np.ndarray:
    """u8[32, 32]: a gray picture whose bright blocks encode the emotion, or the two of a compound."""
    picture = rng.integers(40, 90, (SIZE, SIZE))
    for shown in (emotion,) if second is None else (emotion, second):
        row, column = divmod(shown, 3)
        picture[4 + 13 * row : 15 + 13 * row, 10 * column + 1 : 10 * column + 10] += 120
    return picture.astype(np.uint8)


def write_faces(
    folder: Path,
    *,
    num_train: int = 96,
    num_val: int = 36,
    source: str = "drawn",
    other: str = "",
    seed: int = 0,
    splits: tuple[str, ...] = ("train", "val"),
    with_compounds: bool = False,
) -> Path:
    """Two shards of faces with soft emotion labels and three action units; fold = row % 5, some rows held out.

    Every fourth row is of the source `other`, if one is named; every fourth shows a compound, if asked for.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(num_train + num_val):
        emotion = number % 6
        label = (
            label_targets(EMOTIONS[emotion])
            if number % 2
            else vote_targets({EMOTIONS[emotion]: 8, EMOTIONS[(emotion + 1) % 6]: 2})
        )
        second = None
        if with_compounds and number % 4 == 0:
            compound = ABAW_COMPOUNDS[number // 4 % len(ABAW_COMPOUNDS)]
            emotion, second = (EMOTIONS.index(name) for name in compound.pair)
            label = label_targets(compound.name)
        buffer = io.BytesIO()
        Image.fromarray(draw_face(emotion, rng, second=second)).save(buffer, "PNG")
        au_targets, au_mask = np.zeros(len(ACTION_UNITS), np.float32), np.zeros(len(ACTION_UNITS), bool)
        for unit in range(3):
            au_targets[unit], au_mask[unit] = float(emotion % 3 == unit), (number + unit) % 4 != 0
        samples.append(
            ShardSample(
                key=f"{number:05d}.png",
                source=other if other and number % 4 == 3 else source,
                group=f"{source}/{number}",
                split=splits[0] if number < num_train else splits[1 + number % (len(splits) - 1)],
                class_name=EMOTIONS[emotion],
                image=buffer.getvalue(),
                image_path=f"{number:05d}.png",
                width=SIZE,
                height=SIZE,
                margin=1.0,
                framing="whole",
                targets=label.targets,
                mask=label.mask,
                au_targets=au_targets,
                au_mask=au_mask,
                face_size_px=float(SIZE),
                blur=0.5,
                darkness=0.1,
                contrast=0.3,
                sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
                phash=number,
            )
        )
    shards = []
    half = len(samples) // 2
    for number, part in enumerate((samples[:half], samples[half:])):
        path = shard_path(folder, source=source, number=number)
        with ShardWriter(path=path) as writer:
            for sample in part:
                writer.add(sample)
            writer.commit({})
        name, size = path.name, path.stat().st_size
        shards.append(ShardFile(file=name, source=source, num_rows=len(part), num_bytes=size, sha256=file_sha256(path)))
    write_manifest(folder, shards=shards, settings={}, versions={}, per_source={source: {}})
    fold = (np.arange(len(samples)) % 5).astype(np.int8)
    fold[-2:] = -1
    write_folds(
        folder / "folds.parquet",
        Folds(fold=fold, joined=np.arange(len(samples))),
        manifest=read_manifest(folder),
    )
    return folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="session")
def tiny() -> dict[str, object]:
    """Settings of a tiny network that trains quickly."""
    return {
        "image_size": 32,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "drop_path": 0.0,
        "stem": "patch",
    }


@pytest.fixture
def make_faces() -> Callable[..., Path]:
    """write_faces."""
    return write_faces


@pytest.fixture(scope="session")
def forker(start_forker: Callable[..., Any]) -> Any:
    """Starts processes in which the packages of training are loaded already, with the indirect imports of a run."""
    return start_forker("pandas", "torchvision.transforms.v2", "femae.training.recipes.run")
