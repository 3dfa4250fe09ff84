"""Speed of training on an accelerator: femae's loop against the bare step, in memory and streamed, eager and compiled.

    python benchmarks/gpu.py --out benchmarks/results/gpu.md

`bare` is the same network, precision and fused optimizer in a loop over one batch on the device, without augmentation,
averages or log. `ours` is the loop of `femae train` with its default augmentation (and mixup in the emotion stage),
average of the weights, clipping and log: `memory` with the pictures in memory, `stream` with JPEG files from shards
decoded by threads. Pictures per second, median over the lines of the log without the first ones. No further row starts
after `--minutes`; skipped rows are listed. Finally `pytest -m gpu` runs.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from femae import __version__
from femae.config.model import ModelConfig
from femae.config.train import EmotionConfig, PretrainConfig

VIT: dict[str, Any] = {"image_size": 224, "patch_size": 16, "in_chans": 3, "depth": 12, "mlp_ratio": 4.0}
SIZES: dict[str, dict[str, Any]] = {
    "ViT-S/16, 224": {
        "model": VIT | {"embed_dim": 384, "num_heads": 6, "stem": "patch", "class_token": True},
        "decoder": {"embed_dim": 256, "depth": 4, "num_heads": 8},
    },
    "ViT-B/16, 224": {
        "model": VIT | {"embed_dim": 768, "num_heads": 12, "stem": "patch", "class_token": True},
        "decoder": {"embed_dim": 512, "depth": 8, "num_heads": 16},
    },
}
TINY: dict[str, dict[str, Any]] = {
    "tiny": {
        "model": {"image_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2, "stem": "patch", "in_chans": 3},
        "decoder": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    }
}
Row = dict[str, Any]


def write_shards(folder: Path, *, count: int, size: int) -> Path:
    """Write a folder of shards with `count` JPEG pictures, 64 different ones repeated."""
    from femae.data.store.manifest import ShardFile, file_sha256, write_manifest
    from femae.data.store.shards import ACTION_UNITS, ShardSample, ShardWriter, shard_path

    rng = np.random.default_rng(0)
    files = []
    for _ in range(64):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    path = shard_path(folder, source="drawn", number=0)
    with ShardWriter(path=path) as writer:
        for number in range(count):
            writer.add(
                ShardSample(
                    key=f"{number}",
                    source="drawn",
                    group=f"{number}",
                    split="val" if number < 64 else "train",
                    class_name="",
                    image=files[number % 64],
                    image_path=f"{number}.jpg",
                    width=size,
                    height=size,
                    margin=1.0,
                    framing="whole",
                    targets=np.eye(6, dtype=np.float32)[number % 6],
                    mask=np.ones(6, bool),
                    au_targets=np.zeros(len(ACTION_UNITS), np.float32),
                    au_mask=np.zeros(len(ACTION_UNITS), bool),
                    face_size_px=float(size),
                    blur=0.5,
                    darkness=0.1,
                    contrast=0.3,
                    sha256="",
                    phash=number,
                )
            )
        writer.commit({})
    shard = ShardFile(
        file=path.name, source="drawn", num_rows=count, num_bytes=path.stat().st_size, sha256=file_sha256(path)
    )
    write_manifest(folder, shards=[shard], settings={}, versions={}, per_source={"drawn": {}})
    return folder


def stage(setting: Row, kind: str, data: Path, options: argparse.Namespace, *, compiled: bool) -> Any:
    common: dict[str, Any] = {
        "data": {"folders": (data,), "loader": "stream", "workers": options.workers},
        "model": setting["model"],
        "run": {
            "epochs": 1,
            "batch_size": options.batch,
            "log_every": 10,
            "tensorboard": False,
            "accelerator": options.accelerator,
            "compile": compiled,
        },
    }
    if kind == "pretrain":
        return PretrainConfig(**common, decoder=setting["decoder"])
    return EmotionConfig(**common, class_weights="none", mixup={"alpha": 1.0})


def synchronize(accelerator: str) -> None:
    if accelerator != "cpu":
        getattr(torch, accelerator).synchronize()


def bare(config: Any, options: argparse.Namespace) -> float:
    from femae.models.face import FaceModel
    from femae.models.mae import MaskedAutoencoder
    from femae.training.loop.cost import example_inputs

    shape: ModelConfig = config.model
    masked = isinstance(config, PretrainConfig)
    network: Any = (
        MaskedAutoencoder(shape, decoder=config.decoder) if masked else FaceModel(shape, outputs=tuple("abcdef"))
    )
    network.to(options.accelerator, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    forward: Callable[..., Any] = torch.compile(network, dynamic=False) if config.run.compile else network
    inputs = example_inputs(shape, count=options.batch, masked=masked, device=options.accelerator)
    pixels = torch.randn_like(inputs[0]).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(options.batch, 6, device=options.accelerator)

    def step() -> None:
        with torch.autocast(options.accelerator, torch.bfloat16):
            output = forward(pixels, *inputs[1:])
        if masked:
            output.loss.backward()
        else:
            torch.nn.functional.binary_cross_entropy_with_logits(output.logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(options.warm):
        step()
    synchronize(options.accelerator)
    started = time.perf_counter()
    for _ in range(options.steps // 2):
        step()
    synchronize(options.accelerator)
    return options.batch * (options.steps // 2) / (time.perf_counter() - started)


def in_memory(config: Any) -> AbstractContextManager[Any]:
    """Context in which random pictures in memory replace those of the shards, to skip decoding them first."""
    from femae.training.tasks import emotion, pretrain

    module = pretrain if isinstance(config, PretrainConfig) else emotion
    real = module.load_sets

    def load(data: Any, model: ModelConfig, **named: Any) -> Any:
        rng = np.random.default_rng(0)
        sets = []
        for faces in real(data, model, **named):
            pixels = np.empty((len(faces), model.in_chans, model.image_size, model.image_size), np.uint8)
            pixels[:] = rng.integers(0, 256, pixels.shape[1:], np.uint8)
            sets.append(faces.__class__(**{name: getattr(faces, name) for name in FIELDS}, pictures=pixels))
        return tuple(sets)

    return patch.object(module, "load_sets", load)


FIELDS = ("readers", "rows", "targets", "mask", "au_targets", "au_mask", "fold")


def ours(config: Any, *, memory: bool) -> Row:
    from contextlib import nullcontext

    from femae.training.loop.run_folder import RunFolder
    from femae.training.recipes.stage import train_stage

    with tempfile.TemporaryDirectory() as run, in_memory(config) if memory else nullcontext():
        train_stage(config, run=Path(run), quiet=True)
        lines = RunFolder(Path(run)).entries("step")
    lines = lines[2:] or lines[-1:]  # the first ones include kernel selection and compilation
    middle = sorted(lines, key=lambda line: float(line["pictures_per_s"]))[len(lines) // 2]
    return {name: middle[name] for name in ("pictures_per_s", "data_wait", "mfu", "memory_mb")}


def measure(options: argparse.Namespace, data: Path, deadline: float) -> tuple[list[str], list[str]]:
    """(rows of the table, titles of skipped rows)."""
    rows, skipped = [], []
    todo = [(name, kind, compiled) for compiled in (False, True) for name in options.sizes for kind in KINDS]
    for name, kind, compiled in todo:
        title = f"{name}, {kind}, {'compiled' if compiled else 'eager'}"
        if time.monotonic() > deadline:
            skipped.append(title)
            continue
        config = stage(options.sizes[name], kind, data, options, compiled=compiled)
        top = bare(config, options)
        torch.compiler.reset()
        memory = ours(config, memory=True)
        stream = {"pictures_per_s": float("nan")} if compiled else ours(config, memory=False)
        share = memory["pictures_per_s"] / top
        cells = [f"{top:,.0f}", f"{memory['pictures_per_s']:,.0f}", f"{share:.2f}", f"{memory['data_wait']:.0%}"]
        cells += [f"{memory['mfu']:.2f}", f"{memory['memory_mb']:,.0f}", f"{stream['pictures_per_s']:,.0f}"]
        rows.append("| " + " | ".join([title, *cells]).replace("nan", "-") + " |")
        print(rows[-1], flush=True)
    return rows, skipped


KINDS = ("pretrain", "emotion")


def gpu_tests() -> str:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here; default: only print it")
    parser.add_argument("--minutes", type=float, default=4.0, help="start no further row after this; the tests follow")
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1), help="decoding threads")
    parser.add_argument("--tiny", action="store_true", help="a tiny network on whatever is there, to try this script")
    options = parser.parse_args()
    available = [name for name in ("cuda", "mps") if getattr(torch, name).is_available()]
    if not available and not options.tiny:
        print("benchmarks/gpu.py needs an accelerator, and torch finds neither CUDA nor mps on this machine.")
        return 2
    options.accelerator = available[0] if available else "cpu"
    options.sizes, options.batch, options.warm, options.steps = SIZES, 256, 10, 60
    if options.tiny:
        options.sizes, options.batch, options.warm, options.steps = TINY, 16, 2, 30
    device = torch.cuda.get_device_name() if options.accelerator == "cuda" else options.accelerator
    head = "| network | bare | ours, memory | ours / bare | data wait | MFU | memory, MB | ours, stream |"
    print(f"{device}, torch {torch.__version__}\n{head}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        size = next(iter(options.sizes.values()))["model"]["image_size"]
        data = write_shards(Path(folder), count=options.batch * options.steps + 64, size=size)
        rows, skipped = measure(options, data, time.monotonic() + 60 * options.minutes)
    tests = "not run" if options.tiny else gpu_tests()
    about = [
        "# Training on an accelerator",
        "",
        f"femae {__version__}, torch {torch.__version__}, {date.today()}, {device}, {os.cpu_count()} CPU cores, bf16 "
        f"autocast, batch {options.batch}, {options.workers} decoding threads. Asked for: ours at least .9 of the bare "
        f"step in memory. `pytest -m gpu`: {tests}.",
        "",
        " ".join(__doc__.split("\n\n")[2].split()),
        "",
        *([f"No time was left for: {'; '.join(skipped)}.", ""] if skipped else []),
        head,
        "|---" + "|---:" * 7 + "|",
        *rows,
    ]
    print(f"pytest -m gpu: {tests}")
    if options.out:
        options.out.write_text("\n".join(about) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
