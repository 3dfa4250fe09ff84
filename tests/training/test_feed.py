"""The stream loader: every picture once per epoch over all processes, with its labels, from any step on."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs femae[train]")

from femae.config.model import ModelConfig
from femae.config.train import DataConfig
from femae.training.loader.loader import Batch, BatchShare, LoaderSpec, batches
from femae.training.loader.sampler import RowStream
from femae.training.loader.sets import FaceSet, load_sets

EPOCHS, BATCH = 3, 16


def sets(faces: Path, loader: str) -> tuple[FaceSet, ModelConfig]:
    model = ModelConfig(image_size=32, stem="patch")
    return load_sets(DataConfig(folders=(faces,), loader=loader), model)[0], model


def rows_of(batch: Batch) -> list[tuple[bytes, bytes]]:
    pairs = zip(batch.pixels.numpy(), batch.targets.numpy(), strict=True)
    return [(pixels.tobytes(), targets.tobytes()) for pixels, targets in pairs]


def run(faces: Path, *, loader: str, world: int = 1, workers: int = 0, first_step: int = 0) -> list[list[Any]]:
    """The batches of each process of `world`, in order."""
    train, model = sets(faces, loader)
    blocks = train.blocks() if loader == "stream" else None
    got = []
    for rank in range(world):
        stream = RowStream(len(train), batch_size=BATCH, seed=0, blocks=blocks)
        share = BatchShare(rank=rank, world_size=world, accumulate=2)
        last = stream.first_step(EPOCHS)
        data = LoaderSpec(faces=train, model=model, device=torch.device("cpu"), workers=workers)
        feed = batches(data, stream, share, steps=range(first_step, last))
        got.append([row for batch in feed for row in rows_of(batch)])
    return got


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 2), (3, 1)])
def test_each_row_once_an_epoch_over_all_processes_and_readers(faces: Path, world: int, workers: int) -> None:
    train, _ = sets(faces, "memory")
    assert train.pictures is not None
    everything = Counter(zip((p.tobytes() for p in train.pictures), (t.tobytes() for t in train.targets), strict=True))
    got = run(faces, loader="stream", world=world, workers=workers)
    assert Counter(row for process in got for row in process) == Counter({k: EPOCHS * n for k, n in everything.items()})


def test_a_stream_taken_up_at_a_step_gives_what_follows(faces: Path) -> None:
    whole = run(faces, loader="stream")[0]
    assert run(faces, loader="stream", workers=2, first_step=7)[0] == whole[7 * BATCH :]


def test_processes_share_the_steps_of_one(faces: Path) -> None:
    whole = run(faces, loader="memory")[0]
    first, second = run(faces, loader="memory", world=2)
    for step in range(len(whole) // BATCH):
        half = BATCH // 2
        parts = first[step * half : (step + 1) * half] + second[step * half : (step + 1) * half]
        assert parts == whole[step * BATCH : (step + 1) * BATCH]


def test_labels_and_pictures_are_those_of_the_manifest(faces: Path) -> None:
    from femae.data.store.manifest import read_manifest
    from femae.data.store.shard_reader import load_pictures

    manifest = read_manifest(faces)
    train, _ = sets(faces, "memory")
    chosen = np.array(manifest.strings("split")) == "train"
    assert train.strings("key") == [k for k, c in zip(manifest.strings("key"), chosen, strict=True) if c]
    expected = load_pictures(manifest, size=32, gray=True)[chosen].transpose(0, 3, 1, 2)
    assert train.pictures is not None and np.array_equal(train.pictures, expected)
    assert np.array_equal(train.targets, manifest.vectors("targets")[chosen])


def test_folds_split_the_rows_and_leave_out_what_is_held_out(faces: Path) -> None:
    model = ModelConfig(image_size=32, stem="patch")
    keys = []
    for fold in range(5):
        train, val = load_sets(DataConfig(folders=(faces,), fold=fold), model)
        assert not set(train.strings("key")) & set(val.strings("key"))
        assert len(train) + len(val) == 130 and set(val.fold.tolist()) == {fold}
        keys += val.strings("key")
    assert len(keys) == len(set(keys)) == 130
    config = DataConfig(folders=(faces,), folded_only=True, train_splits=("train", "val"), val_splits=())
    train, _ = load_sets(config, model)
    assert len(train) == 130


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_threads_decode_the_pixels_of_pillow(suffix: str, mode: str) -> None:
    """JPEG with and without chroma subsampling, PNG, EXIF orientation, and files that are not 8-bit gray or RGB."""
    import io

    from PIL import Image

    from femae.data.store.shard_reader import decode_picture
    from femae.errors import DataError
    from femae.training.loader.block_reader import decode_upright

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((61, 83), Image.Resampling.BICUBIC)
    pictures = [small.convert(mode)] + ([small.convert("LA"), small.convert("P")] if suffix == "PNG" else [])
    for picture in pictures:
        for turn in (1, 6):
            exif = Image.Exif()
            exif[0x0112] = turn
            buffer = io.BytesIO()
            options = {"quality": 90, "subsampling": 2 if mode == "RGB" else 0} if suffix == "JPEG" else {}
            picture.save(buffer, suffix, exif=exif, **options)
            found = decode_upright(buffer.getvalue())
            assert found.shape == (found.shape[0], 83, 61) if turn == 1 else (found.shape[0], 61, 83)
            expected = decode_picture(buffer.getvalue()).transpose(2, 0, 1)
            assert np.abs(np.broadcast_to(found, expected.shape).astype(int) - expected).max() <= (suffix == "JPEG")
    with pytest.raises(DataError, match="not a readable picture"):
        decode_upright(buffer.getvalue()[:50])


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("height", "width", "margin"), [(83, 61, 1.0), (96, 96, 1.5), (48, 48, 1.0), (20, 24, 1.2)])
def test_decoding_on_the_device_gives_nearly_the_pixels_of_the_host(
    kind: str, height: int, width: int, margin: float
) -> None:
    import io

    from PIL import Image

    from femae.data.store.shard_reader import decode_picture, frame_picture
    from femae.training.loader.block_reader import decode_on

    if kind == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pictures = []
    for suffix, mode in (("JPEG", "RGB"), ("PNG", "RGB"), ("JPEG", "L")):
        buffer = io.BytesIO()
        small.convert(mode).save(buffer, suffix)
        pictures.append((buffer.getvalue(), margin))
    for channels in (1, 3):
        found = decode_on(pictures, device=torch.device(kind), size=48, channels=channels).cpu().numpy().astype(int)
        for picture, (data, _) in zip(found, pictures, strict=True):
            expected = frame_picture(decode_picture(data), size=48, stored_margin=margin, gray=channels == 1)
            difference = np.abs(picture - expected.transpose(2, 0, 1))
            assert difference.max() <= (3 if kind == "cuda" else 2) and difference.mean() < 0.6
